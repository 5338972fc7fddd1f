"""Build a config from its defaults, a YAML file, a preset and ``--set``, and compare configs."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from tcgn_mil.config.declare import (
    ConfigT,
    as_input_error,
    default_of,
    keys_of,
    sections_of,
    unknown_key,
)
from tcgn_mil.errors import InputError
from tcgn_mil.file_formats.yaml_text import parse_yaml, read_yaml_file
from tcgn_mil.io.atomic import write_text


def resolve_config(
    config_class: type[ConfigT],
    *,
    yaml_path: str | Path | None = None,
    overrides: Sequence[str] = (),
    preset: Mapping[str, Any] | None = None,
) -> ConfigT:
    """Build a config from its defaults, a YAML file, a preset and overrides, later ones winning.

    Parameters
    ----------
    config_class
        A class made by :func:`config_class`.
    yaml_path
        File that holds a mapping of the same shape; any section and any key may be missing.
    overrides
        Strings ``section.key=value``. The value is read as YAML.
    preset
        Values of a preset, nested like the file.

    Raises
    ------
    InputError
        If the file cannot be read, a key is unknown, or a value is wrong. The error names the key
        and where it was given.
    """
    values = read_yaml(yaml_path) if yaml_path is not None else {}
    source = str(yaml_path) if yaml_path is not None else None
    _check_keys(config_class, values, source=source)
    values = _merged(values, preset or {})
    for override in overrides:
        _apply_override(config_class, values, override)
    return config_from_values(config_class, values, source=source)


def config_from_values(
    config_class: type[ConfigT], values: Mapping[str, Any], *, source: str | None = None
) -> ConfigT:
    """Build a config from nested plain values; missing keys have their defaults.

    Parameters
    ----------
    config_class
        A class made by :func:`config_class`.
    values
        Values by key, nested like a config file.
    source
        Where the values come from, for the error message.

    Raises
    ------
    InputError
        If a key is unknown or missing, or a value is wrong.
    """
    _check_keys(config_class, dict(values), source=source)
    merged = _merged(_section_defaults(config_class), values)
    try:
        return TypeAdapter(config_class).validate_python(merged)
    except ValidationError as error:
        raise as_input_error(config_class, error, source=source) from error


def as_plain(config: Any) -> dict[str, Any]:
    """Return a config as nested dictionaries of plain values, for JSON, YAML and comparison."""
    return plain(dataclasses.asdict(config))


def write_config(path: str | Path, config: Any) -> None:
    """Write the resolved config as YAML that :func:`resolve_config` reads back."""
    import yaml

    write_text(path, yaml.safe_dump(as_plain(config), sort_keys=False, allow_unicode=True))


def differing_keys(first: dict[str, Any], second: dict[str, Any], *, prefix: str = "") -> list[str]:
    """Return the dotted keys whose values differ between two plain configs."""
    differing: list[str] = []
    for key in [*first, *(key for key in second if key not in first)]:
        left, right = first.get(key), second.get(key)
        if isinstance(left, dict) and isinstance(right, dict):
            differing += differing_keys(left, right, prefix=f"{prefix}{key}.")
        elif left != right:
            differing.append(f"{prefix}{key}")
    return differing


def _section_defaults(config_class: type) -> dict[str, Any]:
    """Return the sections as this config makes them, which may differ from their own defaults."""
    defaults = {}
    for item in dataclasses.fields(config_class):
        section = default_of(config_class, item.name)
        if dataclasses.is_dataclass(section):
            defaults[item.name] = {
                inner.name: getattr(section, inner.name) for inner in dataclasses.fields(section)
            }
    return defaults


def _merged(lower: Mapping[str, Any], upper: Mapping[str, Any]) -> dict[str, Any]:
    """Lay `upper` over `lower`, section by section."""
    sections = {
        key: value
        for key, value in upper.items()
        if isinstance(value, dict) and isinstance(lower.get(key), dict)
    }
    merged = {key: _merged(lower[key], value) for key, value in sections.items()}
    return {**lower, **upper, **merged}


def plain(value: Any) -> Any:
    """Return a value as JSON and YAML know it."""
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    return str(value) if isinstance(value, Path) else value


def read_yaml(path: str | Path) -> dict[str, Any]:
    """Read a YAML file that holds a mapping.

    Raises
    ------
    InputError
        If there is no such file, or it holds something else; or if it has an alias, a repeated key
        or very deep nesting.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError("no such config file", path=path, fix="check the path given with --config")
    values = read_yaml_file(path, what="valid YAML", fix="correct the line that the message names")
    values = {} if values is None else values
    if not isinstance(values, dict):
        raise InputError(
            "holds no mapping of keys to values", path=path, fix="write lines such as 'epochs: 20'"
        )
    return values


def _check_keys(
    config_class: type, values: dict[str, Any], *, source: str | None, prefix: str = ""
) -> None:
    names = [item.name for item in dataclasses.fields(config_class)]
    sections = sections_of(config_class)
    for key, value in values.items():
        if key not in names:
            known = keys_of(config_class)
            raise unknown_key(f"{prefix}{key}", str(key), known, source=source)
        if key in sections:
            if not isinstance(value, dict):
                raise InputError(
                    f"config key '{prefix}{key}' is a section, not a value",
                    path=source,
                    fix=f"write its keys below it, for example '{prefix}{key}:' and then"
                    f" '  {dataclasses.fields(sections[key])[0].name}: ...'",
                )
            _check_keys(sections[key], value, source=source, prefix=f"{prefix}{key}.")


def _apply_override(config_class: type, values: dict[str, Any], override: str) -> None:
    dotted, separator, text = override.partition("=")
    if not separator or not dotted:
        raise InputError(
            f"--set {override!r} is not key=value", fix="write for example --set training.lr=3e-4"
        )
    *parents, key = dotted.strip().split(".")
    target, owner = values, config_class
    for parent in parents:
        sections = sections_of(owner)
        if parent not in sections:
            if not sections:
                raise InputError(
                    f"--set {dotted}: '{parent}' is not a section", fix="give the key alone"
                )
            raise unknown_key(dotted, parent, list(sections), source="--set")
        owner = sections[parent]
        target = target.setdefault(parent, {})
    names = keys_of(owner)
    if key not in names:
        raise unknown_key(dotted, key, names, source="--set")
    try:
        target[key] = parse_yaml(text)
    except ValueError as error:
        raise InputError(
            f"--set {dotted}: {text!r} is not a YAML value", fix="quote the value"
        ) from error
