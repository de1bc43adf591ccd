"""The configuration: config.yaml over the sizes of its scale, checked against the schema.

Whatever is wrong with it is a UserError of one line: which file, which key, and what would be right.
"""

from pathlib import Path

import yaml
from jsonschema import Draft202012Validator, ValidationError

from diffusion2gan.errors import UserError, nearest

SCHEMA = Path("schemas") / "config.schema.yaml"


def load(config: dict, root: Path) -> dict:
    """`config` (config.yaml and what overrides it) merged over `scales/{scale}.yaml` under `root`, valid.

    Raises UserError when there is no such scale, or when a key is unknown, missing or of the wrong kind.
    """
    config = _typed(config)
    sizes = read_scale(config.get("scale"), root)
    merged = merge(sizes, config)
    schema = yaml.safe_load((root / SCHEMA).read_text(encoding="utf-8"))
    errors = list(Draft202012Validator(schema).iter_errors(merged))
    if errors:
        # a misspelt key is usually also a missing one: the misspelling is what helps
        first = min(errors, key=lambda error: (error.validator != "additionalProperties", list(map(str, error.path))))
        raise UserError(_explain(first, config, sizes))
    return merged


def read_scale(name: object, root: Path) -> dict:
    """The sizes of a scale. Raises UserError when there is none of that name."""
    known = sorted(path.stem for path in (root / "scales").glob("*.yaml"))
    if name not in known:
        raise UserError(f"config.yaml: no scale '{name}', {nearest(str(name), known)}")
    return yaml.safe_load((root / "scales" / f"{name}.yaml").read_text(encoding="utf-8"))


def merge(below: dict, above: dict) -> dict:
    """`above` over `below`, mappings merged key by key, anything else replaced."""
    merged = dict(below)
    for key, value in above.items():
        both = isinstance(value, dict) and isinstance(merged.get(key), dict)
        merged[key] = merge(merged[key], value) if both else value
    return merged


def _typed(tree: object) -> object:
    """Snakemake reads every value within `--config 'gan={lambda_gan: 2.0}'` as a word: numbers and truths again."""
    if isinstance(tree, dict):
        return {key: _typed(value) for key, value in tree.items()}
    if isinstance(tree, list):
        return [_typed(value) for value in tree]
    meant = yaml.safe_load(tree) if isinstance(tree, str) else tree
    return meant if isinstance(meant, (bool, int, float)) else tree


def _explain(error: ValidationError, config: dict, sizes: dict) -> str:
    """One line that says which key of which file is wrong, and what would be right."""
    path = [str(part) for part in error.absolute_path]
    file = f"scales/{config['scale']}.yaml" if _reaches(sizes, path) and not _reaches(config, path) else "config.yaml"
    here = ".".join(path)
    if error.validator == "additionalProperties":
        known = list(error.schema["properties"])
        unknown = next(str(key) for key in error.instance if key not in known)
        if not _reaches(config, [*path, unknown]):
            file = f"scales/{config['scale']}.yaml"
        return f"{file}: unknown key '{unknown}'{' in ' + here if here else ''}, {nearest(unknown, known)}"
    if error.validator == "required":
        lacking = next(key for key in error.validator_value if key not in error.instance)
        return f"config.yaml or scales/{config['scale']}.yaml: {here or 'the configuration'} lacks '{lacking}'"
    value = error.instance
    if error.validator == "enum":
        return f"{file}: {here} is '{value}', {nearest(str(value), map(str, error.validator_value))}"
    if error.validator == "type":
        kinds = error.validator_value if isinstance(error.validator_value, list) else [error.validator_value]
        wanted = " or ".join(_KINDS[kind] for kind in kinds)
        return f"{file}: {here} is {value!r}, it must be {wanted}{_decimal_point(value, kinds)}"
    return f"{file}: {here} is {value!r}: {error.message}"


_KINDS = {
    "boolean": "true or false",
    "integer": "a whole number",
    "number": "a number",
    "string": "a word",
    "array": "a list",
    "object": "a mapping",
    "null": "null",
}


def _decimal_point(value: object, kinds: list[str]) -> str:
    """YAML reads 1e-5 as a word and 1.0e-5 as a number."""
    try:
        number = float(value) if isinstance(value, str) and "number" in kinds else None
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
