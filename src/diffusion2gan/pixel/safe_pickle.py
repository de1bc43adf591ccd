"""Pickles of others, read without executing them: whatever is not on a list of harmless things is refused by name."""

import pickle
from collections.abc import Callable
from typing import BinaryIO

from diffusion2gan.errors import UserError


def load(file: BinaryIO, name: str, allowed: dict[str, Callable], encoding: str = "ASCII") -> object:
    """What a pickle holds; `allowed` maps the globals that it may name, `module.name`, to what stands for them here.

    Raises UserError that names any other, and for a file that is no pickle. `name` is the file's, for the message.
    """

    class Unpickler(pickle.Unpickler):
        def find_class(self, module: str, qualified: str) -> Callable:
            wanted = f"{module}.{qualified}"
            if wanted not in allowed:
                raise UserError(
                    f"'{name}' asks for {wanted}, which data has no need of: it is refused, take the official file"
                )
            return allowed[wanted]

    try:
        return Unpickler(file, encoding=encoding).load()
    except UserError:
        raise
    except Exception as error:  # a damaged pickle can fail in any way
        raise UserError(f"'{name}' is not the pickle that it should be: {type(error).__name__}: {error}") from error
