"""A command line is checked against the settings of its script, and a mistake is one line."""

import errno
import shlex
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from diffusion2gan.errors import UserError
from diffusion2gan.settings import Count, Positive, Seeded, Solver
from diffusion2gan.study import cli
from diffusion2gan.validation import SettingsModel


class Model(Seeded):
    folder: Path
    solver: Solver = "ddim"
    batch_size: Count = 8
    rate: Positive | None = None
    fast: bool = False
    words: list[str] = []
    sizes: list[int] = []


@dataclass
class Plain:
    folder: Path
    batch_size: int = 8
    fast: bool = False
    words: list[str] = field(default_factory=list)


@pytest.mark.parametrize("kind", [Model, Plain])
def test_words_become_the_types_of_the_fields(kind):
    line = "--folder a --batch-size 3 --fast true --words 'a fox' b"
    args = cli.parse(kind, shlex.split(line))
    assert (args.folder, args.batch_size, args.fast, args.words) == (Path("a"), 3, True, ["a fox", "b"])
    assert cli.parse(kind, ["--folder", "a", "--batch_size", "4"]).batch_size == 4
    assert cli.parse(kind, ["--folder", "a", "--fast"]).fast and not cli.parse(kind, ["--folder", "a"]).fast
    assert not cli.parse(kind, ["--folder", "a", "--fast", "false"]).fast


def test_a_first_word_that_is_no_option_is_the_first_field():
    assert cli.parse(Plain, ["a", "--batch_size", "2"]) == Plain(Path("a"), 2)


def test_a_command_line_is_read_as_it_was_written():
    said = {"folder": Path("a b"), "batch_size": 3, "rate": 1e-5, "fast": True, "words": ["it's", "b"], "sizes": [1, 2]}
    args = cli.parse(Model, shlex.split(cli.arguments(said)))
    assert args == Model(**said)
    assert cli.settings_of(args, ["folder", "rate", "sizes"]) == {"folder": "a b", "rate": 1e-5, "sizes": [1, 2]}


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("--folder a --batchsize 3", "unknown option --batchsize, did you mean '--batch_size'?"),
        ("--batch_size 3", "the option --folder is missing"),
        ("--folder a --batch_size 0", "batch_size is '0': input should be greater than or equal to 1"),
        ("--folder a --batch_size many", "batch_size is 'many', it must be a whole number"),
        ("--folder a --solver dim", "solver is 'dim', did you mean 'ddim'?"),
        ("--folder a --fast often", "fast is 'often', it must be true or false"),
        ("--folder a --sizes 1 x", "sizes.1 is 'x', it must be a whole number"),
        ("--folder", "argument --folder: expected one argument"),
    ],
)
def test_a_wrong_option_is_one_line(line, said):
    with pytest.raises(UserError) as error:
        cli.parse(Model, shlex.split(line))
    assert str(error.value) == said


class Fails(SettingsModel):
    how: str = "well"


def main(args: Fails):
    if args.how == "badly":
        raise UserError("it went badly")
    if args.how == "on a full disk":
        raise OSError(errno.ENOSPC, "No space left on device", "a.png")
    raise KeyboardInterrupt


@pytest.mark.parametrize(
    ("words", "status", "said"),
    [
        (["--how", "badly"], "error: it went badly", ""),  # SystemExit prints a text, and its status is 1
        (
            ["--how", "on a full disk"],
            "error: No space left on device: a.png: free some space, or see to the disk, and run again",
            "",
        ),
        (["--hwo", "badly"], 2, "error: unknown option --hwo, did you mean '--how'?\n"),
        ([], 130, ""),
    ],
)
def test_the_exit_status_says_whose_mistake_it_is(words, status, said, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["script.py", *words])
    with pytest.raises(SystemExit) as exited:
        cli.run(main)
    assert exited.value.code == status and capsys.readouterr().err == said


def test_help_shows_the_docstring_and_every_default(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["script.py", "--help"])
    with pytest.raises(SystemExit) as exited:
        cli.run(main)
    text = capsys.readouterr().out
    assert exited.value.code == 0 and "a mistake is one line" in text and "(default: well)" in text


def test_neither_command_lines_nor_the_study_import_torch():
    command = "import sys; import diffusion2gan.study.cli, diffusion2gan.study.options, diffusion2gan.study.config; "
    command += "print(sorted({'torch', 'transformers', 'pandas', 'snakemake'} & sys.modules.keys()))"
    ran = subprocess.run([sys.executable, "-c", command], text=True, capture_output=True, check=True)
    assert ran.stdout == "[]\n"
