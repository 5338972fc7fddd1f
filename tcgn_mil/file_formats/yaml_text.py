"""Read YAML without aliases, repeated keys and deep nesting, each of which can do harm.

An alias repeats a part of the text. Aliases of aliases grow so fast that a file of one kilobyte
needs gigabytes of memory. Of a repeated key, YAML readers silently keep the last value.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from tcgn_mil.errors import InputError
from tcgn_mil.file_formats.reading import describe_damage
from tcgn_mil.text import duplicates, preview

MAX_YAML_BYTES = 2**18  # PyYAML reads about 60 KB in a second
MAX_DEPTH = 40


class _StrictLoader(yaml.SafeLoader):
    """Loader of plain values that refuses what the docstring of this module names."""

    depth = 0

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.AliasEvent):
            raise yaml.YAMLError(f"line {self.peek_event().start_mark.line + 1} holds an alias (*)")
        self.depth += 1
        if self.depth > MAX_DEPTH:
            raise yaml.YAMLError(f"it is nested more than {MAX_DEPTH} levels deep")
        node = super().compose_node(parent, index)
        self.depth -= 1
        return node

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        names = [str(key.value) for key, _ in node.value if isinstance(key, yaml.ScalarNode)]
        if repeated := duplicates(names):
            line = node.start_mark.line + 1
            raise yaml.YAMLError(
                f"key {preview(repeated)} appears twice in the mapping at line {line}"
            )
        return super().construct_mapping(node, deep=deep)


def read_yaml_file(path: str | Path, *, what: str, fix: str) -> Any:
    """Read a YAML file of plain values.

    Parameters
    ----------
    path
        UTF-8 text.
    what
        Kind of file in the message, for example ``a config file``.
    fix
        Advice for the user.

    Returns
    -------
    The value; None if the file is empty.

    Raises
    ------
    InputError
        If the file is missing, is larger than 256 KiB, is not UTF-8 or not YAML, or has an alias, a
        repeated key or more than 40 levels.

    Examples
    --------
    >>> _ = Path("tile.yaml").write_text("a: &x [1, 2]\\nb: *x\\n")
    >>> read_yaml_file("tile.yaml", what="a config file", fix="write the value twice")
    Traceback (most recent call last):
    tcgn_mil.errors.InputError: tile.yaml: cannot be read as a config file (line 2 holds an ...
    """
    path = Path(path)
    with describe_damage(path, what=what, fix=fix):
        if not path.is_file():
            raise InputError(f"there is no such file ({what})", path=path, fix=fix)
        with path.open("rb") as file:
            content = file.read(MAX_YAML_BYTES + 1)
        if len(content) > MAX_YAML_BYTES:
            raise InputError(
                f"is larger than {MAX_YAML_BYTES >> 10} KiB, too large for {what}",
                path=path,
                fix=fix,
            )
        text = content.decode("utf-8-sig")
    try:
        return parse_yaml(text)
    except ValueError as error:
        raise InputError(f"cannot be read as {what} ({error})", path=path, fix=fix) from error


def parse_yaml(text: str) -> Any:
    """Read a YAML text of plain values, by the same rules.

    Raises
    ------
    ValueError
        If the text is not YAML, or has an alias, a repeated key or too many levels.

    Examples
    --------
    >>> parse_yaml("[1, two]")
    [1, 'two']
    >>> parse_yaml("2026-13-45")
    Traceback (most recent call last):
    ValueError: month must be in 1..12
    """
    try:
        # The loader derives from SafeLoader, so that no object but plain values is made.
        return yaml.load(text, Loader=_StrictLoader)
    except yaml.YAMLError as error:
        raise ValueError(" ".join(str(error).split())) from error
    except ValueError:
        raise
    except Exception as error:  # PyYAML lets errors of int(), of dates and of recursion through
        raise ValueError(f"{type(error).__name__}: {error}") from error
