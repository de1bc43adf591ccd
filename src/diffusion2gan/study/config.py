"""The configuration: config.yaml merged over its scale, then checked against the models in `study.entries`.

A mistake raises a UserError of one line that names the file, the key, and what would be right.

    python -m diffusion2gan.study.config > schemas/config.schema.json   # for editors
"""

import json
from pathlib import Path
from typing import get_args, get_origin

import yaml
from pydantic import BaseModel, ValidationError

from diffusion2gan.errors import UserError, nearest
from diffusion2gan.io import reading
from diffusion2gan.study.entries import Configuration
from diffusion2gan.validation import wrong

SHARED = "default"  # every scale starts from this one


def load(config: dict, root: Path) -> Configuration:
    """Merge `config` (config.yaml and its overrides) over its scale, a file under `root`, and check the result.

    Raises UserError if there is no such scale, or if a key is unknown, missing or of the wrong type.
    """
    layers = {"config.yaml": _typed(config), **read_scale(config.get("scale"), root)}
    merged = {}
    for layer in reversed(layers.values()):
        merged = merge(merged, layer)
    try:
        return Configuration.model_validate(merged, strict=True)
    except ValidationError as error:
        raise UserError(_explain(error, merged, layers)) from error


def read(path: Path) -> Configuration:
    """Read a complete configuration that the workflow wrote as JSON. Raises UserError if it cannot be read."""
    with reading(path):
        return Configuration.model_validate_json(path.read_text(encoding="utf-8"))


def read_scale(name: object, root: Path) -> dict[str, dict]:
    """The values of a scale and of the scales that it starts from: {file: values}, the scale itself first.

    A scale starts from the one that its key `over` names, otherwise from scales/default.yaml. Raises UserError if a
    scale does not exist.
    """
    known = sorted(path.stem for path in (root / "scales").glob("*.yaml") if path.stem != SHARED)
    if name not in known:
        raise UserError(f"config.yaml: no scale '{name}', {nearest(str(name), known)}")
    layers = {}
    while name and (file := f"scales/{name}.yaml") not in layers:
        layers[file] = values = read_yaml(root / file, file)
        name = values.pop("over", None if name == SHARED else SHARED)
        if name not in (*known, SHARED, None):
            raise UserError(f"{file}: over: no scale '{name}', {nearest(str(name), known)}")
    return layers


def read_yaml(path: Path, name: str) -> dict:
    """The mapping in a YAML file. Raises UserError that calls it `name` for any other file, and for a repeated key."""
    try:
        loader = _UniqueKeys(path.read_text(encoding="utf-8"))
        loader.name = name
        content = loader.get_single_data()
    except UserError:
        raise
    except Exception as error:  # PyYAML can fail in any way, with an IndexError at `!!int ''`
        raise UserError(f"{name} cannot be read as YAML: {type(error).__name__}: {error}") from error
    if not isinstance(content, dict):
        raise UserError(f"{name} holds no mapping of names to values: write `name: value` lines")
    return content


class _UniqueKeys(yaml.SafeLoader):
    """Refuses a key that appears twice in a mapping; YAML itself would silently keep the second."""

    def compose_mapping_node(self, anchor):
        node, seen = super().compose_mapping_node(anchor), set()
        for key, _ in node.value:
            if key.value in seen:
                line = key.start_mark.line + 1
                raise UserError(f"{self.name}, line {line}: the key '{key.value}' appears twice: keep one")
            seen.add(key.value)
        return node


def merge(below: dict, above: dict) -> dict:
    """Merge `above` over `below`: mappings are merged key by key, anything else is replaced."""
    merged = dict(below)
    for key, value in above.items():
        both = isinstance(value, dict) and isinstance(merged.get(key), dict)
        merged[key] = merge(merged[key], value) if both else value
    return merged


def schema() -> dict:
    """The JSON schema of config.yaml and of the scales. Each file holds only a part, so no key is required."""
    tree = Configuration.model_json_schema()
    tree["properties"]["over"] = {"type": "string", "description": "only in a scale: the scale that it starts from"}
    return _pruned(tree)


def _pruned(tree: object) -> object:
    """Remove the lists of required keys, and the titles, which only repeat the names."""
    if isinstance(tree, dict):
        dropped = {"required": list, "title": str}
        return {key: _pruned(value) for key, value in tree.items() if not isinstance(value, dropped.get(key, ()))}
    return [_pruned(each) for each in tree] if isinstance(tree, list) else tree


def _typed(tree: object) -> object:
    """Convert words back to numbers and booleans: Snakemake reads `--config 'gan={lambda_gan: 2.0}'` as words."""
    if isinstance(tree, dict):
        return {key: _typed(value) for key, value in tree.items()}
    if isinstance(tree, list):
        return [_typed(value) for value in tree]
    if not isinstance(tree, str):
        return tree
    kind = yaml.SafeLoader("").resolve(yaml.ScalarNode, tree, (True, False)).rpartition(":")[2]
    try:
        return yaml.safe_load(tree) if kind in ("bool", "int", "float") else tree
    except ValueError:  # 0b_ looks like a number to YAML
        return tree


def _explain(error: ValidationError, merged: dict, layers: dict[str, dict]) -> str:
    """One line that says which key of which file is wrong, and what would be right."""
    # a misspelt key is usually reported as missing too: the message about the misspelling helps more
    first = min(error.errors(), key=lambda each: (each["type"] != "extra_forbidden", list(map(str, each["loc"]))))
    path = _path(first["loc"], merged)
    file = next((file for file, layer in layers.items() if _reaches(layer, path)), "config.yaml")
    *above, last = path
    here, within = ".".join(path), ".".join(above)
    if first["type"] == "extra_forbidden":
        known = _at(Configuration, above).model_fields
        return f"{file}: unknown key '{last}'{' in ' + within if within else ''}, {nearest(last, known)}"
    if first["type"] == "missing":
        scale = list(layers)[1]
        return f"config.yaml or {scale}: {within or 'the configuration'} lacks '{last}'"
    if first["type"] == "value_error" and isinstance(first["input"], dict):
        return f"{file}: {here} {first['ctx']['error']}"
    return f"{file}: {here} {wrong(first)}{_decimal_point(first)}"


def _path(place: tuple, tree: object) -> list[str]:
    """The keys that lead to an error, without the names of models that pydantic adds in a union."""
    keys = []
    for number, key in enumerate(place):
        inside = isinstance(key, int) if isinstance(tree, list) else isinstance(tree, dict) and key in tree
        if inside or number == len(place) - 1:
            keys.append(str(key))
            tree = tree[key] if inside else None
    return keys


def _at(kind: object, path: list[str]) -> type[BaseModel]:
    """The model of the entry at a path."""
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        return _at(kind.model_fields[path[0]].annotation, path[1:]) if path else kind
    if get_origin(kind) in (dict, list):
        return _at(get_args(kind)[-1], path[1:])
    return _at(get_args(kind)[0], path)  # Annotated or a union


def _decimal_point(error: dict) -> str:
    """What to write for 1e-5, which YAML reads as a word; it reads 1.0e-5 as a number."""
    try:
        number = float(error["input"]) if error["type"] == "float_type" and isinstance(error["input"], str) else None
    except ValueError:
        return ""
    return f": write it with a decimal point, {number:.1e}" if number is not None else ""


def _reaches(tree: object, path: list[str]) -> bool:
    for part in path:
        if isinstance(tree, list):
            return True
        if not isinstance(tree, dict) or part not in tree:
            return False
        tree = tree[part]
    return True


if __name__ == "__main__":
    print(json.dumps(schema(), indent=1))
