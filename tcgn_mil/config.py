"""One way to describe a run: dataclass defaults < YAML file < ``--set section.key=value``.

Configs are frozen dataclasses, nested by section. Unknown keys and wrong types fail, with the closest known key.
"""

from __future__ import annotations

import dataclasses
import difflib
import typing
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from tcgn_mil.errors import InputError
from tcgn_mil.io.atomic import write_text

ConfigT = TypeVar("ConfigT")


def resolve_config(
    config_class: type[ConfigT],
    *,
    yaml_path: str | Path | None = None,
    overrides: Sequence[str] = (),
    preset: Mapping[str, Any] | None = None,
) -> ConfigT:
    """Build a config from its defaults, a YAML file, a preset and ``key=value`` overrides, in rising precedence.

    Parameters
    ----------
    config_class
        A dataclass, possibly with dataclass fields.
    yaml_path
        File with a mapping of the same shape; sections and keys may be left out.
    overrides
        ``section.key=value`` strings; the value is read as YAML.
    preset
        Values of a preset, nested as the file's.

    Raises
    ------
    InputError
        For an unreadable file, an unknown key or a value of the wrong type, naming the key and its source.
    """
    values = _read_yaml(yaml_path) if yaml_path is not None else {}
    source = str(yaml_path) if yaml_path is not None else None
    _check_keys(config_class, values, source=source)
    values = _merged(values, preset or {})
    for override in overrides:
        _apply_override(config_class, values, override)
    return _validate(config_class, _merged(_section_defaults(config_class), values), source=source)


def _section_defaults(config_class: type) -> dict[str, Any]:
    """What a section is where it is not given, which need not be its class's own defaults."""
    found = {}
    for field in dataclasses.fields(config_class):
        made = None if field.default_factory is dataclasses.MISSING else field.default_factory()
        if dataclasses.is_dataclass(made):
            found[field.name] = {
                item.name: getattr(made, item.name) for item in dataclasses.fields(made)
            }
    return found


def _merged(lower: Mapping[str, Any], upper: Mapping[str, Any]) -> dict[str, Any]:
    """`upper` over `lower`, section by section."""
    both = {
        key: value
        for key, value in upper.items()
        if isinstance(value, dict) and isinstance(lower.get(key), dict)
    }
    return {**lower, **upper, **{key: _merged(lower[key], value) for key, value in both.items()}}


def as_plain(config: Any) -> dict[str, Any]:
    """A config as nested dicts of plain values, for JSON, YAML and comparison."""
    return _plain(dataclasses.asdict(config))


def write_config(path: str | Path, config: Any) -> None:
    """Write the resolved config as YAML that :func:`resolve_config` reads back."""
    import yaml

    write_text(path, yaml.safe_dump(as_plain(config), sort_keys=False, allow_unicode=True))


def differing_keys(first: dict[str, Any], second: dict[str, Any], *, prefix: str = "") -> list[str]:
    """Dotted keys whose values differ between two plain configs."""
    found: list[str] = []
    for key in [*first, *(key for key in second if key not in first)]:
        left, right = first.get(key), second.get(key)
        if isinstance(left, dict) and isinstance(right, dict):
            found += differing_keys(left, right, prefix=f"{prefix}{key}.")
        elif left != right:
            found.append(f"{prefix}{key}")
    return found


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return str(value) if isinstance(value, Path) else value


def _read_yaml(path: str | Path) -> dict[str, Any]:
    import yaml

    path = Path(path)
    if not path.is_file():
        raise InputError("no such config file", path=path, fix="check the path given with --config")
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8-sig")) or {}
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise InputError(
            f"is not valid YAML: {error}", path=path, fix="correct the line named"
        ) from error
    if not isinstance(values, dict):
        raise InputError(
            "holds no mapping of keys to values", path=path, fix="write lines such as 'epochs: 20'"
        )
    return values


def _sections(config_class: type) -> dict[str, type]:
    """Fields that are dataclasses themselves."""
    hints = typing.get_type_hints(config_class)
    names = [field.name for field in dataclasses.fields(config_class)]
    return {name: hints[name] for name in names if dataclasses.is_dataclass(hints[name])}


def _check_keys(
    config_class: type, values: dict[str, Any], *, source: str | None, prefix: str = ""
) -> None:
    known = [field.name for field in dataclasses.fields(config_class)]
    sections = _sections(config_class)
    for key, value in values.items():
        if key not in known:
            raise _unknown_key(f"{prefix}{key}", str(key), known, source=source)
        if key in sections:
            if not isinstance(value, dict):
                raise InputError(
                    f"config key '{prefix}{key}' is a section, not a value", path=source
                )
            _check_keys(sections[key], value, source=source, prefix=f"{prefix}{key}.")


def _unknown_key(dotted: str, key: str, known: list[str], *, source: str | None) -> InputError:
    close = difflib.get_close_matches(key, known, n=1)
    fix = f"did you mean '{close[0]}'?" if close else f"known keys here: {', '.join(known)}"
    return InputError(f"unknown config key '{dotted}'", path=source, fix=fix)


def _apply_override(config_class: type, values: dict[str, Any], override: str) -> None:
    import yaml

    dotted, separator, text = override.partition("=")
    if not separator or not dotted:
        raise InputError(
            f"--set {override!r} is not key=value", fix="write for example --set training.lr=3e-4"
        )
    *parents, key = dotted.strip().split(".")
    target, owner = values, config_class
    for parent in parents:
        sections = _sections(owner)
        if parent not in sections:
            raise _unknown_key(dotted, parent, list(sections), source="--set")
        owner = sections[parent]
        target = target.setdefault(parent, {})
    known = [field.name for field in dataclasses.fields(owner)]
    if key not in known:
        raise _unknown_key(dotted, key, known, source="--set")
    try:
        target[key] = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise InputError(
            f"--set {dotted}: {text!r} is not a YAML value", fix="quote the value"
        ) from error


def _validate(
    config_class: type[ConfigT], values: dict[str, Any], *, source: str | None
) -> ConfigT:
    from pydantic import TypeAdapter, ValidationError

    try:
        return TypeAdapter(config_class).validate_python(values)
    except ValidationError as error:
        first = error.errors()[0]
        cause = first.get("ctx", {}).get("error")
        if isinstance(cause, InputError):  # a config checked itself, and says what to do
            raise InputError(cause.reason, path=source, fix=cause.fix) from error
        key = ".".join(str(part) for part in first["loc"]) or config_class.__name__
        raise InputError(
            f"config key '{key}' is {first.get('input')!r}: {first['msg']}",
            path=source,
            fix="give a value of the type that --show-config shows",
        ) from error
