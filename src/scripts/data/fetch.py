"""Download a public file and check its MD5, if known."""

import shutil
import urllib.request
from dataclasses import dataclass
from pathlib import Path

from diffusion2gan.errors import UserError
from diffusion2gan.io import atomic, file_md5
from diffusion2gan.study import cli


@dataclass
class Arguments:
    url: str
    out: Path
    md5: str = ""


def main(args: Arguments):
    with atomic(args.out) as temporary:
        try:
            with urllib.request.urlopen(args.url, timeout=60) as remote, open(temporary, "wb") as file:
                shutil.copyfileobj(remote, file)
        except OSError as error:
            raise UserError(f"{args.url} cannot be fetched ({error}): fetch it elsewhere as {args.out}") from error
        if args.md5 and (digest := file_md5(temporary)) != args.md5:
            raise UserError(f"{args.url} has the MD5 {digest}, not {args.md5}: fetch it again")


if __name__ == "__main__":
    cli.run(main)
