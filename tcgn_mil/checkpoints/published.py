"""Open a published model: a folder, or a repository on the hub, with checked digests.

``tcgn-mil publish`` writes a flat folder of safetensors and JSON files with a model card. Its
``digests.json`` names the kind of the model and the SHA-256 digest of each file, which are compared
each time the model is opened: a download, a cache or a copy may be damaged or changed. The card has
no digest, so that it can be edited on the page of the repository.

Files of other kinds are never downloaded and never read. A pickle, which can run code when it is
loaded, may lie in a repository and does no harm there.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

from tcgn_mil.checkpoints.file_format import ENCODER, SLIDE_MODEL, SUFFIX, is_own_checkpoint
from tcgn_mil.errors import InputError
from tcgn_mil.file_formats.json_file import check_object, read_json
from tcgn_mil.hub import HUB_PREFIX, download, find_file, page_of, parse_hub_name
from tcgn_mil.io.atomic import write_json
from tcgn_mil.pathology import find_entry
from tcgn_mil.text import preview
from tcgn_mil.version import __version__

DIGESTS = "digests.json"
CARD = "README.md"
ENCODER_FILE = f"encoder{SUFFIX}"
SCHEMA = 1
CHECKED = (f"*{SUFFIX}", "*.json")
_USED_BY = {ENCODER: "--encoder", SLIDE_MODEL: "--model"}
_CHUNK = 2**20


@dataclass(frozen=True)
class ModelFolder:
    """Folder of a model on this machine, and the repository that it comes from.

    Attributes
    ----------
    path
        The folder.
    kind
        ``encoder`` or ``slide-model``. None if the folder is not a published one, but that of a
        run.
    repo
        Repository on the hub as ``owner/name``; None if the folder was given by its path.
    revision
        Hash of the commit of the repository; None without a repository.
    """

    path: Path
    kind: str | None = None
    repo: str | None = None
    revision: str | None = None

    def __str__(self) -> str:
        if self.repo is None:
            return str(self.path)
        return f"{HUB_PREFIX}{self.repo}@{self.revision}"

    @property
    def origin(self) -> dict[str, str] | None:
        """Repository and revision for the summary of a run; None without a repository."""
        if self.repo is None or self.revision is None:
            return None
        return {"repository": self.repo, "revision": self.revision}


def open_model(source: str | Path, *, kind: str) -> ModelFolder:
    """Find a model on this machine, or download it, and check its digests.

    Parameters
    ----------
    source
        Folder of a run, folder that ``tcgn-mil publish`` wrote, or ``hf-hub:owner/name`` with an
        optional ``@revision``.
    kind
        Kind of model that is wanted: `ENCODER` or `SLIDE_MODEL`.

    Raises
    ------
    InputError
        If the repository cannot be downloaded or holds no published model; if the model is of the
        other kind, or was published by a later version; or if a file was changed or is missing.

    Notes
    -----
    The folder of a run has no digests and is returned as it is.
    """
    text = str(source)
    if not text.startswith(HUB_PREFIX):
        path = Path(source)
        if not (path / DIGESTS).is_file():
            return ModelFolder(path)
        check_published(path, kind=kind)
        return ModelFolder(path, kind)
    name = parse_hub_name(text)
    folder = download(name, (*CHECKED, CARD))
    if not (folder.path / DIGESTS).is_file():
        raise InputError(
            f"the repository {name} holds no model that tcgn-mil published ({DIGESTS} is missing)",
            path=page_of(name.repo),
            fix="name a repository that tcgn-mil publish made; encoders of other libraries are"
            f" given to {_USED_BY[ENCODER]}, or to tcgn_mil.open_encoder",
        )
    check_published(folder.path, kind=kind, repo=name.repo)
    return ModelFolder(folder.path, kind, folder.repo, folder.revision)


def published_encoder(source: str | Path) -> Path | None:
    """Return the checkpoint of an encoder that ``tcgn-mil publish`` wrote; None for any other.

    Parameters
    ----------
    source
        As for ``--encoder``. Only a folder and ``hf-hub:owner/name`` can be a published encoder.

    Raises
    ------
    InputError
        If it is a published model, but not an encoder, or if a file of it was changed.
    """
    text = str(source)
    if text.startswith(HUB_PREFIX):
        is_ours = find_file(text, DIGESTS) is not None
    else:
        is_ours = (Path(source) / DIGESTS).is_file()
    return open_model(source, kind=ENCODER).path / ENCODER_FILE if is_ours else None


def find_checkpoint(source: str) -> str | None:
    """Return the path of a checkpoint of this package that an encoder's name leads to.

    Parameters
    ----------
    source
        As for ``--encoder``: the path of a checkpoint, the folder that ``tcgn-mil publish`` wrote
        (also as ``local-dir:folder``), or its repository on the hub.

    Returns
    -------
    str or None
        None if the source is an encoder of another kind.

    Raises
    ------
    InputError
        If it is a published model but not an encoder, if a file of it was changed, or if the hub
        cannot be reached.
    """
    if is_own_checkpoint(source):
        return source
    if source.startswith(HUB_PREFIX) and find_entry(source) is not None:
        return None  # a known encoder of another group, which is not asked for its digests
    found = published_encoder(source.removeprefix("local-dir:"))
    return None if found is None else str(found)


def source_name(source: str) -> str:
    """Return an encoder's source for the record of a run, without folders of this machine."""
    return source if source.startswith(HUB_PREFIX) else Path(source).name


def write_digests(folder: str | Path, *, kind: str) -> dict[str, str]:
    """Write ``digests.json`` for the safetensors and JSON files of a folder.

    Returns
    -------
    SHA-256 digest of each file, by name.
    """
    folder = Path(folder)
    digests = {path.name: file_digest(path) for path in _checked_files(folder)}
    write_json(
        folder / DIGESTS,
        {"schema_version": SCHEMA, "kind": kind, "tcgn_mil": __version__, "files": digests},
    )
    return digests


def file_digest(path: str | Path) -> str:
    """Return the SHA-256 digest of a file in hexadecimal digits.

    Examples
    --------
    >>> Path("empty").touch()
    >>> file_digest("empty")[:16]
    'e3b0c44298fc1c14'
    """
    digest = hashlib.sha256()
    with Path(path).open("rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def check_published(folder: Path, *, kind: str, repo: str | None = None) -> None:
    """Check the kind of a published model, and compare its files with their digests.

    Parameters
    ----------
    folder
        The folder.
    kind
        Kind of model that is wanted.
    repo
        Repository from which the folder was downloaded, for the messages.

    Raises
    ------
    InputError
        If the model is of the other kind, was published by a later version, or if a file was
        changed, is missing or is not listed.
    """
    where = repo or str(folder)
    listed = _read_digests(folder, where)
    if listed.kind != kind:
        found = listed.kind
        fix = f"give it as {_USED_BY[found]}" if found in _USED_BY else "upgrade tcgn-mil"
        raise InputError(
            f"holds a model of kind {found}, but one of kind {kind} is needed",
            path=where,
            fix=f"{fix}, and name a {kind} here",
        )
    files, digests = {path.name: path for path in _checked_files(folder)}, listed.files
    # An empty cache folder is the only sure way to a new download: the cache keeps contents by the
    # names that the hub gives them, and would offer a damaged one again.
    fix = "copy the folder again from where it was published"
    if repo is not None:
        fix = f"remove the folder {folder.parents[1]} and run again, which downloads it anew"
    if missing := [name for name in digests if name not in files]:
        raise InputError(f"lacks the file {preview(missing)}", path=where, fix=fix)
    if extra := [name for name in files if name not in digests]:
        raise InputError(
            f"has the file {preview(extra)}, which {DIGESTS} does not list",
            path=where,
            fix=f"remove the file, or publish the model again ({fix})",
        )
    if changed := [name for name, path in files.items() if file_digest(path) != digests[name]]:
        raise InputError(
            f"the file {preview(changed)} is not what was published: its SHA-256 digest differs"
            f" from the one in {DIGESTS}",
            path=where,
            fix=fix,
        )


def _checked_files(folder: Path) -> list[Path]:
    paths = {path for pattern in CHECKED for path in folder.glob(pattern)}
    return sorted(path for path in paths if path.name != DIGESTS)


@dataclass(frozen=True)
class _PublishedFiles:
    """Schema of `DIGESTS`: the kind of the model, and the SHA-256 digest of each file."""

    schema_version: int
    kind: str
    files: dict[str, str]


def _read_digests(folder: Path, where: str) -> _PublishedFiles:
    fix = "publish the model again, or name another revision"
    what = "a list of published files"
    stored = read_json(folder / DIGESTS, what=what, fix=fix)
    version = stored.get("schema_version")
    if isinstance(version, int) and version > SCHEMA:  # its other keys may mean something else
        raise InputError(
            f"was published by a later version of this package (schema {version}, this one reads"
            f" {SCHEMA})",
            path=where,
            fix="upgrade tcgn-mil",
        )
    return check_object(_PublishedFiles, stored, f"{where}/{DIGESTS}", what=what, fix=fix)
