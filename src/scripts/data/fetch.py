"""Download a public file and check its MD5, if known. A broken connection is resumed where the server allows it."""

import shutil
import time
import urllib.request
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path
from typing import BinaryIO

from diffusion2gan.errors import UserError
from diffusion2gan.io import atomic, disk_problem, file_md5
from diffusion2gan.study import cli

ATTEMPTS = 5  # with 1, 2, 4 and 8 seconds between them                                             # ours


@dataclass
class Arguments:
    url: str
    out: Path
    md5: str = ""


def main(args: Arguments):
    with atomic(args.out) as temporary:
        try:
            with open(temporary, "wb") as file:
                download(args.url, file)
        except (OSError, HTTPException, ValueError) as error:
            if disk_problem(error):
                raise
            raise UserError(f"{args.url} cannot be fetched ({error}): fetch it elsewhere as {args.out}") from error
        with open(temporary, "rb") as file:
            if file.read(512).lstrip().lower().startswith((b"<!doctype html", b"<html")):
                what = "a web page, as from a proxy that wants a login"
                raise UserError(f"{args.url} came as {what}: fetch it elsewhere as {args.out}")
        if args.md5 and (digest := file_md5(temporary)) != args.md5:
            raise UserError(f"{args.url} has the MD5 {digest}, not {args.md5}: fetch it again")


def download(url: str, file: BinaryIO) -> None:
    """Write what is at `url` into an empty file. Raises OSError or HTTPException if that fails several times."""
    version = None
    for attempt in range(ATTEMPTS):
        resumed = {"Range": f"bytes={file.tell()}-", "If-Range": version} if version else {}
        try:
            with urllib.request.urlopen(urllib.request.Request(url, headers=resumed), timeout=60) as remote:
                if getattr(remote, "status", None) != 206:  # the whole file, and not the rest
                    file.seek(0)
                    file.truncate()
                tag, length = remote.headers.get("ETag", ""), remote.headers.get("Content-Length")
                version = tag if tag.startswith('"') else None  # others do not say that the bytes are the same
                end = file.tell() + int(length) if length else None
                shutil.copyfileobj(remote, file)
            if end not in (None, file.tell()):
                raise ConnectionError(f"the connection broke after {file.tell()} of {end} bytes")
            return
        except (OSError, HTTPException) as error:
            refused = getattr(error, "code", 500) < 500  # an HTTPError: the server will say the same again
            if refused or disk_problem(error) or attempt == ATTEMPTS - 1:
                raise
            time.sleep(2**attempt)


if __name__ == "__main__":
    cli.run(main)
