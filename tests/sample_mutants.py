"""Try a random sample of the mutants of `make mutation`: as many of each package as its share, the same for a seed.

    make mutation SAMPLE=300

Prints the survivors, and the share of killed mutants with its 95 % interval (Wilson 1927). Read the survivors: some
compute the same as the code, and should be left out of the share.
"""

import json
import random
import subprocess
import sys
from pathlib import Path

from mutmut.__main__ import copy_also_copy_files, copy_src_dir, create_mutants
from mutmut.mutation.trampoline import set_mutant_under_test

KILLED = {1, 3, -24, 24, 36, 152, 255}  # a failed test, an error, a timeout: exit codes of mutmut's workers


def mutants() -> dict[str, dict[str, int | None]]:
    """The exit code of every mutant, None if it was never tried, by package."""
    packages = {}
    for file in sorted(Path("mutants/src").rglob("*.meta")):
        codes = json.loads(file.read_text())["exit_code_by_key"]
        packages.setdefault(file.parent.as_posix(), {}).update(codes)
    return packages


def sample(count: int, seed: int) -> list[str]:
    """`count` names, rounded in each package."""
    packages, generator = mutants(), random.Random(seed)
    total = sum(map(len, packages.values()))
    shares = {package: round(count * len(codes) / total) for package, codes in packages.items()}
    return [name for package, codes in packages.items() for name in generator.sample(sorted(codes), shares[package])]


def interval(killed: int, count: int, z: float = 1.96) -> tuple[float, float]:
    """Wilson's 95 % interval of a share."""
    share, width = killed / count, z * (killed * (count - killed) / count**3 + z**2 / (4 * count**2)) ** 0.5
    return tuple((share + z**2 / (2 * count) + side * width) / (1 + z**2 / count) for side in (-1, 1))


if __name__ == "__main__":
    count, seed = int(sys.argv[1]), int(sys.argv[2])
    set_mutant_under_test("mutant_generation")
    Path("mutants").mkdir(exist_ok=True)
    copy_src_dir()
    copy_also_copy_files()
    create_mutants(1)
    chosen = sample(count, seed)
    subprocess.run([Path(sys.executable).with_name("mutmut"), "run", *chosen], check=True)
    codes = {name: code for package in mutants().values() for name, code in package.items() if name in chosen}
    survivors = [name for name, code in codes.items() if code not in KILLED]
    killed = len(codes) - len(survivors)
    low, high = interval(killed, len(codes))
    print(*survivors, f"{killed} of {len(codes)} killed: {low:.0%} to {high:.0%}", sep="\n")
