"""Read JSON files and JSON texts inside other files."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError

from tcgn_mil.errors import InputError
from tcgn_mil.file_formats.reading import describe_damage

MAX_JSON_BYTES = 2**27  # bytes of unpacked text; a summary with 20,000 genes has a few megabytes
_MAX_RATIO = 50
Model = TypeVar("Model")


def read_json(path: str | Path, *, what: str, fix: str) -> dict[str, Any]:
    """Read a file that holds a JSON object.

    Parameters
    ----------
    path
        UTF-8 text, which may be compressed (.gz).
    what
        Kind of file in the message, for example ``the summary of a run``.
    fix
        Advice for the user.

    Raises
    ------
    InputError
        If the file is missing, is larger than 128 MiB, unpacks to more than 1 MiB and 50 times its
        size, or holds no JSON object.

    Examples
    --------
    >>> _ = Path("summary.json").write_text("[1, 2]")
    >>> read_json("summary.json", what="the summary of a run", fix="run the verb again")
    Traceback (most recent call last):
    tcgn_mil.errors.InputError: summary.json: is not the summary of a run: it holds no ...
    """
    path = Path(path)
    with describe_damage(path, what=what, fix=fix):
        if not path.is_file():
            raise InputError(f"there is no such file ({what})", path=path, fix=fix)
        packed = path.suffix == ".gz"
        # A list of empty lists needs thirty times the memory of its text, and packs very well.
        most = max(2**20, _MAX_RATIO * path.stat().st_size) if packed else MAX_JSON_BYTES
        most = min(most, MAX_JSON_BYTES)
        with gzip.open(path) if packed else path.open("rb") as file:
            content = file.read(most + 1)
        if len(content) > most:
            raise InputError(
                f"{'unpacks to' if packed else 'has'} more than {most / 2**20:.0f} MiB, too much"
                f" for {what}",
                path=path,
                fix=fix,
            )
        value = json.loads(content.decode("utf-8-sig"))
    return _object(value, path, what=what, fix=fix)


def parse_json(text: str, *, path: str | Path, what: str, fix: str) -> dict[str, Any]:
    """Read a JSON object from a text that lies inside a file, for example in an attribute of HDF5.

    Parameters
    ----------
    text
        The text.
    path
        The file, for the message.
    what, fix
        As for :func:`read_json`.

    Raises
    ------
    InputError
        If the text is not a JSON object.
    """
    with describe_damage(path, what=what, fix=fix):
        value = json.loads(text)
    return _object(value, path, what=what, fix=fix)


def read_json_as(model: type[Model], path: str | Path, *, what: str, fix: str) -> Model:
    """Read a JSON file that this package writes, and check it against its schema.

    Parameters
    ----------
    model
        A dataclass, or another type that pydantic checks. Keys that it does not name are ignored.
    path, what, fix
        As for :func:`read_json`.

    Raises
    ------
    InputError
        As for :func:`read_json`; or if a key is missing or a value is wrong. The message names the
        first of these keys.
    """
    return check_object(model, read_json(path, what=what, fix=fix), path, what=what, fix=fix)


def check_object(
    model: type[Model], value: dict[str, Any], path: str | Path, *, what: str, fix: str
) -> Model:
    """Check a JSON object against a schema; as :func:`read_json_as`, which describes the errors."""
    try:
        return TypeAdapter(model).validate_python(value)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        key = ".".join(map(str, first["loc"]))
        raise InputError(
            f"is not {what}: its key {key!r} is wrong ({first['msg']})", path=path, fix=fix
        ) from error


def _object(value: object, path: str | Path, *, what: str, fix: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise InputError(f"is not {what}: it holds no JSON object", path=path, fix=fix)
    return value
