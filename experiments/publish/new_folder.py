"""Write a folder under a temporary name, and put it in the place of an older one of its kind."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from tcgn_mil.checkpoints.published import CARD, DIGESTS
from tcgn_mil.errors import InputError
from tcgn_mil.file_formats.json_file import read_json
from tcgn_mil.io.atomic import remove_leftovers, temporary_prefix


@contextlib.contextmanager
def new_folder(out_dir: Path) -> Iterator[Path]:
    """Yield a temporary folder, which takes the place of `out_dir` at the end.

    If the block raises an error, the temporary folder is removed and `out_dir` stays as it was.

    Raises
    ------
    InputError
        If `out_dir` holds files that its ``digests.json`` does not list, which somebody else wrote.
    """
    _check_replaceable(out_dir)
    out_dir.parent.mkdir(parents=True, exist_ok=True)
    remove_leftovers(out_dir.parent)
    temporary = Path(
        tempfile.mkdtemp(prefix=temporary_prefix(out_dir.name), suffix=".tmp", dir=out_dir.parent)
    )
    try:
        yield temporary
        # mkdtemp makes folders that only their owner can enter.
        temporary.chmod(0o755)
        shutil.rmtree(out_dir, ignore_errors=True)
        temporary.replace(out_dir)
    except FileNotFoundError as error:
        if out_dir.parent.is_dir():
            raise
        raise InputError(
            "was removed while files were written to it, or its drive is gone",
            path=out_dir.parent,
            fix="see that the drive is there, and run the command again",
        ) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _check_replaceable(folder: Path) -> None:
    if not folder.exists():
        return
    fix = "choose another --out, or move the folder away"
    if not folder.is_dir():
        raise InputError("exists and is not a folder", path=folder, fix=fix)
    files = {p.relative_to(folder).as_posix() for p in folder.rglob("*") if not p.is_dir()}
    listed = {DIGESTS, CARD}
    if DIGESTS in files:
        with contextlib.suppress(ValueError, KeyError, TypeError):  # an InputError is a ValueError
            content = read_json(folder / DIGESTS, what="a list of published files", fix=fix)
            listed |= set(content["files"])
    if files and (DIGESTS not in files or files - listed):
        raise InputError(
            "exists and holds files that no earlier command of this kind wrote",
            path=folder,
            fix=fix,
        )
