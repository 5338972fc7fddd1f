"""Describe a run by a config: class defaults, a YAML file and ``--set section.key=value``.

A config is a frozen dataclass made by :func:`config_class`, whose fields may be configs themselves
(sections). Each key is declared once, with its default, its bounds and its description::

    @config_class
    class Training:
        \"\"\"Settings of the training loop.\"\"\"

        epochs: int = Field(30, ge=1, description="Largest number of passes over the data.")

From this declaration come the check of the value (by pydantic), the help text of the command line
(:func:`describe_key`) and the commented YAML files in ``experiments/configs``
(:func:`commented_yaml`). Unknown keys and wrong values fail with an error that names the key.
"""

from __future__ import annotations

import dataclasses
import difflib
import functools
import textwrap
import typing
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from pydantic import ConfigDict, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass as pydantic_dataclass
from pydantic.fields import FieldInfo
from typing_extensions import dataclass_transform

from tcgn_mil.errors import InputError
from tcgn_mil.io.atomic import write_text

ConfigT = TypeVar("ConfigT")

_COMMENT_WIDTH = 100
# pydantic's names of bounds, and how a sentence states them
_BOUNDS = {"ge": "at least", "gt": "above", "le": "at most", "lt": "below"}
_KINDS = {"int": "a whole number", "float": "a number", "bool": "true or false", "str": "text"}


# pydantic's Field is no field specifier here: type checkers see the default of a specifier only if
# it is a keyword, and would then ask for every key that is declared as Field(default, ...).
@dataclass_transform(frozen_default=True, field_specifiers=(dataclasses.field,))
def config_class(cls: type[ConfigT]) -> type[ConfigT]:
    """Make a frozen dataclass whose values are checked against the declarations of its fields.

    Parameters
    ----------
    cls
        A class whose annotated attributes are the keys. A key is declared with pydantic's
        ``Field(default, ge=..., le=..., description=...)``. Checks that concern several keys stand
        in ``__post_init__`` and raise :class:`InputError`.

    Returns
    -------
    type
        The class as a frozen dataclass that refuses unknown keys. Its docstring gains an
        ``Attributes`` section that is written from the descriptions. A wrong value raises
        :class:`InputError`, whether it comes from Python, from YAML or from the command line.
    """
    settings = ConfigDict(extra="forbid", arbitrary_types_allowed=True)
    made = pydantic_dataclass(cls, frozen=True, config=settings)
    check_values: Callable[..., None] = made.__init__

    @functools.wraps(check_values)
    def init(self: Any, *args: Any, **kwargs: Any) -> None:
        try:
            check_values(self, *args, **kwargs)
        except ValidationError as error:
            raise _as_input_error(made, error, source=None) from error

    # Nested configs are made by pydantic without ``__init__``, so an error keeps its dotted key.
    type.__setattr__(made, "__init__", init)
    made.__doc__ = _with_attributes(made)
    return typing.cast("type[ConfigT]", made)


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
    values = _read_yaml(yaml_path) if yaml_path is not None else {}
    source = str(yaml_path) if yaml_path is not None else None
    _check_keys(config_class, values, source=source)
    values = _merged(values, preset or {})
    for override in overrides:
        _apply_override(config_class, values, override)
    values = _merged(_section_defaults(config_class), values)
    try:
        return TypeAdapter(config_class).validate_python(values)
    except ValidationError as error:
        raise _as_input_error(config_class, error, source=source) from error


def as_plain(config: Any) -> dict[str, Any]:
    """Return a config as nested dictionaries of plain values, for JSON, YAML and comparison."""
    return _plain(dataclasses.asdict(config))


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


def declaration(config_class: type, key: str) -> FieldInfo:
    """Return pydantic's record of a key: default, bounds and description.

    Parameters
    ----------
    config_class
        A class made by :func:`config_class`.
    key
        Name of a field, or a dotted path through sections such as ``training.lr``.
    """
    *sections, name = key.split(".")
    for section in sections:
        config_class = _sections(config_class)[section]
    fields: dict[str, FieldInfo] = config_class.__pydantic_fields__  # type: ignore[attr-defined]
    return fields[name]


def describe_key(config_class: type, key: str) -> str:
    """Return the description of a key, with its bounds, as one or more sentences."""
    info = declaration(config_class, key)
    bounds = _bounds_of(info)
    described = (info.description or "").strip()
    return f"{described} Must be {bounds}." if bounds else described


def default_of(config_class: type, key: str) -> Any:
    """Return the default value of a key (None where it has none)."""
    *sections, name = key.split(".")
    if sections:
        section = declaration(config_class, sections[0]).get_default(call_default_factory=True)
        for deeper in [*sections[1:], name]:
            section = getattr(section, deeper)
        return section
    info = declaration(config_class, key)
    return None if info.is_required() else info.get_default(call_default_factory=True)


def commented_yaml(config_class: type, *, title: str) -> str:
    """Write all keys of a config with their defaults, each below a comment that describes it.

    Parameters
    ----------
    config_class
        A class made by :func:`config_class`, all of whose keys have defaults.
    title
        Sentences for the head of the file.

    Returns
    -------
    str
        YAML that :func:`resolve_config` reads as the defaults.
    """
    head = textwrap.wrap(title, _COMMENT_WIDTH - 2)
    return "".join(f"# {line}\n" for line in head) + "\n" + _section_yaml(config_class(), depth=0)


def _section_yaml(config: Any, *, depth: int) -> str:
    import yaml

    indent = "  " * depth
    lines = []
    for item in dataclasses.fields(config):
        value = getattr(config, item.name)
        comment = describe_key(type(config), item.name)
        width = _COMMENT_WIDTH - 2 - len(indent)
        lines += [f"{indent}# {line}\n" for line in textwrap.wrap(comment, width)]
        if dataclasses.is_dataclass(value):
            lines.append(f"{indent}{item.name}:\n{_section_yaml(value, depth=depth + 1)}")
        else:
            # Dumped as the one item of a list, a scalar gets no end-of-document marker.
            dumped = yaml.safe_dump([_plain(value)], default_flow_style=True, width=10_000)
            lines.append(f"{indent}{item.name}: {dumped.strip()[1:-1]}\n")
    return "".join(lines)


def _with_attributes(config_class: type) -> str:
    """Return the class docstring with an ``Attributes`` section made from the descriptions."""
    # numpydoc wants Attributes before Examples.
    text, examples, example_lines = (config_class.__doc__ or "").partition("    Examples\n")
    lines = [text.rstrip(), "", "    Attributes", "    ----------"]
    for item in dataclasses.fields(config_class):
        lines.append(f"    {item.name}")
        described = describe_key(config_class, item.name)
        lines += [f"        {line}" for line in textwrap.wrap(described, _COMMENT_WIDTH - 8)]
    if examples:
        lines += ["", (examples + example_lines).rstrip()]
    return "\n".join(lines) + "\n    "


def _bounds_of(info: FieldInfo) -> str:
    """Return the bounds of a number in words, for example ``at least 0 and below 1``."""
    stated = [
        f"{words} {getattr(constraint, name):g}"
        for constraint in info.metadata
        for name, words in _BOUNDS.items()
        if getattr(constraint, name, None) is not None
    ]
    return " and ".join(stated)


def _as_input_error(
    config_class: type, error: ValidationError, *, source: str | None
) -> InputError:
    """Turn the first of pydantic's findings into the one-line error that users see."""
    first = error.errors()[0]
    cause = first.get("ctx", {}).get("error")
    if isinstance(cause, InputError):  # raised in __post_init__, with a fix of its own
        return InputError(cause.reason, path=source, fix=cause.fix)
    keys = [str(part) for part in first["loc"] if not isinstance(part, int)]
    key = ".".join(keys) or config_class.__name__
    if first["type"] == "missing":
        return InputError(f"config key '{key}' is missing", path=source, fix=f"give {key}")
    if first["type"] == "unexpected_keyword_argument":
        names = [item.name for item in dataclasses.fields(config_class)]
        return _unknown_key(key, keys[-1], names, source=source)
    return InputError(
        f"config key '{key}' is {first.get('input')!r}", path=source, fix=_remedy(first)
    )


def _remedy(finding: Mapping[str, Any]) -> str:
    """Return the one thing to do about a value that pydantic refused."""
    kind, context = finding["type"], finding.get("ctx", {})
    for name, words in _BOUNDS.items():
        if name in context:
            return f"give a value that is {words} {context[name]:g}"
    if kind == "literal_error":
        return f"choose one of {context['expected']}"
    for name, words in _KINDS.items():
        if kind.startswith(name):
            return f"give {words}"
    return f"give a value of the type that --show-config shows ({finding['msg']})"


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
            f"is not valid YAML: {error}", path=path, fix="correct the line that the message names"
        ) from error
    if not isinstance(values, dict):
        raise InputError(
            "holds no mapping of keys to values", path=path, fix="write lines such as 'epochs: 20'"
        )
    return values


def _sections(config_class: type) -> dict[str, type]:
    """Return the fields that are configs themselves, by name."""
    hints = typing.get_type_hints(config_class)
    names = [item.name for item in dataclasses.fields(config_class)]
    return {name: hints[name] for name in names if dataclasses.is_dataclass(hints[name])}


def _check_keys(
    config_class: type, values: dict[str, Any], *, source: str | None, prefix: str = ""
) -> None:
    names = [item.name for item in dataclasses.fields(config_class)]
    sections = _sections(config_class)
    for key, value in values.items():
        if key not in names:
            raise _unknown_key(f"{prefix}{key}", str(key), names, source=source)
        if key in sections:
            if not isinstance(value, dict):
                raise InputError(
                    f"config key '{prefix}{key}' is a section, not a value",
                    path=source,
                    fix=f"write its keys below it, for example '{prefix}{key}:' and then"
                    f" '  {dataclasses.fields(sections[key])[0].name}: ...'",
                )
            _check_keys(sections[key], value, source=source, prefix=f"{prefix}{key}.")


def _unknown_key(dotted: str, key: str, names: list[str], *, source: str | None) -> InputError:
    close = difflib.get_close_matches(key, names, n=1)
    fix = f"did you mean '{close[0]}'?" if close else f"use one of the keys {', '.join(names)}"
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
    names = [item.name for item in dataclasses.fields(owner)]
    if key not in names:
        raise _unknown_key(dotted, key, names, source="--set")
    try:
        target[key] = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise InputError(
            f"--set {dotted}: {text!r} is not a YAML value", fix="quote the value"
        ) from error
