"""Settings that are checked when they are given: a mistake is a UserError of one line. Does not import torch."""

import os
import re
from dataclasses import dataclass
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, ValidationError

from diffusion2gan.errors import UserError, nearest


@dataclass(frozen=True)
class OnlyIf:
    """Marks a setting that is used only if the setting `name` has this `value`."""

    name: str
    value: object


class SettingsModel(BaseModel):
    """Settings that cannot be changed. A wrong, unknown or missing setting raises a UserError of one line."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    def __init__(self, **values):
        try:
            super().__init__(**values)
        except ValidationError as error:
            raise UserError(explain(error, type(self))) from error

    __init__.__pydantic_base_init__ = True  # pydantic skips it for nested models: the outer one explains

    def said(self) -> dict:
        """The settings that were given explicitly, as plain values."""
        return self.model_dump(mode="json", exclude_unset=True)

    def used(self) -> dict:
        """The settings in use, as plain values. Those whose `OnlyIf` is not met are left out."""
        conditions = {
            name: [mark for mark in field.metadata if isinstance(mark, OnlyIf)]
            for name, field in type(self).model_fields.items()
        }
        values = self.model_dump(mode="json")
        return {
            name: value
            for name, value in values.items()
            if all(getattr(self, mark.name) == mark.value for mark in conditions[name])
        }


def located(path: str) -> str:
    """A path, or the name of a model, with `~` and environment variables filled in.

    Raises ValueError for a variable that is not set, for a user without a home, and for characters that Snakemake or
    the shell would read as something else.
    """
    kind, colon, path = path.rpartition("local-dir:")
    path = os.path.expandvars(path)
    if unset := re.search(r"\$\{?(\w*)", path):
        raise ValueError(f"the environment variable {unset[1]} is not set: set it, or write the path out")
    if (path := os.path.expanduser(path)).startswith("~"):
        raise ValueError("this home folder is not known: write the path out")
    if wrong := re.search(r"[{}'\"\\\x00-\x1f]", path):
        raise ValueError(f"a path may not contain {wrong[0]!r}: rename the folder, or make a link to it")
    return f"{kind}{colon}{path}"


Location = Annotated[str, AfterValidator(located)]


def explain(error: ValidationError, model: type[BaseModel]) -> str:
    """One line that says which setting is wrong, and what would be right."""
    first = min(error.errors(), key=lambda each: each["type"] != "extra_forbidden")  # a misspelt name is also missing
    name = ".".join(map(str, first["loc"]))
    if first["type"] == "extra_forbidden":
        return f"unknown setting '{name}', {nearest(name, model.model_fields)}"
    if first["type"] == "missing":
        return f"the setting '{name}' is missing"
    if first["type"] == "value_error" and not name:
        return str(first["ctx"]["error"])
    return f"{name} {wrong(first)}"


def wrong(error: dict) -> str:
    """Explain one entry of `ValidationError.errors()`, for example "is 'x', it must be a whole number"."""
    value, kind = error["input"], KINDS.get(error["type"].split("_")[0])
    if error["type"] == "literal_error":
        return f"is '{value}', {nearest(str(value), re.findall(QUOTED, error['ctx']['expected']))}"
    if error["type"] == "value_error":
        return f"is {value!r}: {error['ctx']['error']}"
    if kind and error["type"].endswith(("_type", "_parsing", "_from_float")):
        return f"is {value!r}, it must be {kind}"
    return f"is {value!r}: {error['msg'][0].lower()}{error['msg'][1:]}"


QUOTED = r"'([^']*)'"
KINDS = {
    "bool": "true or false",
    "int": "a whole number",
    "float": "a number",
    "string": "a word",
    "list": "a list",
    "dict": "a mapping",
    "model": "a mapping",
}
