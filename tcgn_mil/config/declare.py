"""Declare the keys of a config: defaults, bounds, descriptions, and the errors for wrong values."""

from __future__ import annotations

import dataclasses
import difflib
import functools
import textwrap
import typing
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from pydantic import ConfigDict, ValidationError
from pydantic.dataclasses import dataclass as pydantic_dataclass
from pydantic.fields import FieldInfo
from typing_extensions import dataclass_transform

from tcgn_mil.errors import InputError

LINE_WIDTH = 100
ConfigT = TypeVar("ConfigT")

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
    settings = ConfigDict(extra="forbid", arbitrary_types_allowed=True, allow_inf_nan=False)
    made = pydantic_dataclass(cls, frozen=True, config=settings)
    check_values: Callable[..., None] = made.__init__

    @functools.wraps(check_values)
    def init(self: Any, *args: Any, **kwargs: Any) -> None:
        try:
            given = {name: _path_as_text(value) for name, value in kwargs.items()}
            check_values(self, *map(_path_as_text, args), **given)
        except ValidationError as error:
            raise as_input_error(made, error, source=None) from error

    # Nested configs are made by pydantic without ``__init__``, so an error keeps its dotted key.
    type.__setattr__(made, "__init__", init)
    made.__doc__ = _with_attributes(made)
    return typing.cast("type[ConfigT]", made)


def _path_as_text(value: Any) -> Any:
    """Return paths as text, which is how a config keeps them for YAML and JSON."""
    if isinstance(value, (list, tuple)) and any(isinstance(item, Path) for item in value):
        return tuple(map(_path_as_text, value))
    return str(value) if isinstance(value, Path) else value


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
        config_class = sections_of(config_class)[section]
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


def sections_of(config_class: type) -> dict[str, type]:
    """Return the fields that are configs themselves, by name."""
    hints = typing.get_type_hints(config_class)
    names = [item.name for item in dataclasses.fields(config_class)]
    return {name: hints[name] for name in names if dataclasses.is_dataclass(hints[name])}


def _with_attributes(config_class: type) -> str:
    """Return the class docstring with an ``Attributes`` section made from the descriptions."""
    # numpydoc wants Attributes before Examples.
    text, examples, example_lines = (config_class.__doc__ or "").partition("    Examples\n")
    lines = [text.rstrip(), "", "    Attributes", "    ----------"]
    for item in dataclasses.fields(config_class):
        lines.append(f"    {item.name}")
        described = describe_key(config_class, item.name)
        lines += [f"        {line}" for line in textwrap.wrap(described, LINE_WIDTH - 8)]
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


def as_input_error(config_class: type, error: ValidationError, *, source: str | None) -> InputError:
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
        return unknown_key(key, keys[-1], names, source=source)
    fix = _remedy(first)
    if first["type"] == "string_pattern_mismatch":
        # The description names the values; the pattern itself is for the program.
        fix = f"give one of the values of its description: {describe_key(config_class, key)}"
    elif first["type"] == "string_type" and key in keys_of(config_class):
        fix += f" ({describe_key(config_class, key).partition('. ')[0].rstrip('.')})"
    return InputError(f"config key '{key}' is {first.get('input')!r}", path=source, fix=fix)


def unknown_key(dotted: str, key: str, names: list[str], *, source: str | None) -> InputError:
    """Return the error for a key that does not exist, with the closest one that does.

    Parameters
    ----------
    dotted
        The key as the user gave it.
    key
        Its last part, or the part that is wrong.
    names
        Keys that could stand in its place. Those in a section are dotted.
    source
        File or option in which the key was given.
    """
    in_sections = [name for name in names if name.rpartition(".")[2] == key]
    close = in_sections[:1] or difflib.get_close_matches(key, names, n=1)
    plain = [name for name in names if "." not in name]
    fix = f"did you mean '{close[0]}'?" if close else f"use one of the keys {', '.join(plain)}"
    return InputError(f"unknown config key '{dotted}'", path=source, fix=fix)


def keys_of(config_class: type) -> list[str]:
    """Return the keys of a config, then those of its sections, dotted."""
    names = [item.name for item in dataclasses.fields(config_class)]
    sections = sections_of(config_class)
    return names + [f"{name}.{key}" for name in sections for key in keys_of(sections[name])]


def _remedy(finding: Mapping[str, Any]) -> str:
    """Return the one thing to do about a value that pydantic refused."""
    kind, context = finding["type"], finding.get("ctx", {})
    for name, words in _BOUNDS.items():
        if name in context:
            return f"give a value that is {words} {context[name]:g}"
    if kind == "finite_number":
        return "give a finite number"
    if kind == "literal_error":
        return f"choose one of {context['expected']}"
    for name, words in _KINDS.items():
        if kind.startswith(name):
            return f"give {words}"
    return f"give a value of the type that --show-config shows ({finding['msg']})"
