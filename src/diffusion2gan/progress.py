"""Progress of a loop: a bar on a terminal, lines in a log file."""

import sys
import time
from collections.abc import Iterable, Iterator

from tqdm import tqdm


def track(items: Iterable, description: str, total: int | None = None, every: float = 10.0) -> Iterator:
    """Yield the items and show progress: a tqdm bar on a terminal, otherwise a line every `every` seconds."""
    if sys.stderr.isatty():
        yield from tqdm(items, desc=description, total=total)
        return
    total = total if total is not None else len(items)
    start = shown = time.monotonic()
    for done, item in enumerate(items, 1):
        yield item
        now = time.monotonic()
        if now - shown >= every or done == total:
            shown = now
            rate = done / (now - start) if now > start else 0.0
            left = (total - done) / rate if rate else 0.0
            print(f"{description}: {done}/{total}, {rate:.2f}/s, {left:.0f} s left", file=sys.stderr, flush=True)
