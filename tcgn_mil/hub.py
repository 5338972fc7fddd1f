"""Download from and upload to a model hub, by huggingface_hub, with errors that say what to do.

The address of the hub, the folder of the cache and the offline mode come from the environment
variables of huggingface_hub: ``HF_ENDPOINT``, ``HF_HUB_CACHE`` or ``HF_HOME``, and
``HF_HUB_OFFLINE``. They are read at each call.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from tcgn_mil.errors import InputError

HUB_PREFIX = "hf-hub:"
PUBLIC_HUB = "https://huggingface.co"
LOGIN = "hf auth login"
_TRUE = ("1", "on", "yes", "true")
_NAME = r"[A-Za-z0-9][A-Za-z0-9._-]*"
_REPO = re.compile(rf"(?P<repo>{_NAME}/{_NAME})(@(?P<revision>[A-Za-z0-9][A-Za-z0-9._/-]*))?")


class HubFileError(InputError):
    """A repository has none of the files that were asked for."""


class HubFolder(NamedTuple):
    """Files of a repository on this machine.

    Attributes
    ----------
    path
        Folder of the files.
    repo
        Repository, as ``owner/name``.
    revision
        Hash of the commit that the files are of.
    """

    path: Path
    repo: str
    revision: str


class HubName(NamedTuple):
    """A repository on the hub, ``owner/name``, and a branch, a tag or a commit of it."""

    repo: str
    revision: str | None = None

    def __str__(self) -> str:
        return self.repo if self.revision is None else f"{self.repo}@{self.revision}"


def parse_hub_name(name: str) -> HubName:
    """Read ``owner/name`` or ``owner/name@revision``, with or without ``hf-hub:``.

    Raises
    ------
    InputError
        If it is no name of a repository.

    Examples
    --------
    >>> parse_hub_name("hf-hub:owner/encoder@v2")
    HubName(repo='owner/encoder', revision='v2')
    """
    found = _REPO.fullmatch(name.removeprefix(HUB_PREFIX))
    if found is None or ".." in name:
        raise InputError(
            f"{name!r} is no name of a repository on the hub",
            fix="write hf-hub:owner/name, or hf-hub:owner/name@revision",
        )
    return HubName(found["repo"], found["revision"])


def endpoint() -> str:
    """Return the address of the hub."""
    return os.environ.get("HF_ENDPOINT", PUBLIC_HUB).rstrip("/")


def page_of(repo: str) -> str:
    """Return the address of a repository's page.

    Examples
    --------
    >>> page_of("owner/encoder")
    'https://huggingface.co/owner/encoder'
    """
    return f"{endpoint()}/{repo}"


def is_offline() -> bool:
    """Return whether the offline mode is set (``HF_HUB_OFFLINE``)."""
    return os.environ.get("HF_HUB_OFFLINE", "").lower() in _TRUE


def download(name: HubName | str, files: Sequence[str], *, note: str = "") -> HubFolder:
    """Download files of a repository, or find them in the cache.

    Parameters
    ----------
    name
        Repository and revision; without a revision, the newest commit.
    files
        Patterns of file names, such as ``*.json``.
    note
        Words about the repository for error messages, such as its licence.

    Raises
    ------
    InputError
        If the repository does not exist, is gated, or has no such file; or if it cannot be reached
        and is not in the cache. The message names the page and what to do there.
    """
    from huggingface_hub import snapshot_download

    hub_name = parse_hub_name(name) if isinstance(name, str) else name
    with _clear_errors(hub_name, note):
        path = Path(
            snapshot_download(
                hub_name.repo,
                revision=hub_name.revision,
                allow_patterns=list(files),
                cache_dir=_cache_folder(),
                endpoint=endpoint(),
                local_files_only=is_offline(),
                library_name="tcgn-mil",
            )
        )
    if not any(file.is_file() for pattern in files for file in path.glob(pattern)):
        raise HubFileError(
            f"the repository {hub_name} has no file {' or '.join(files)}",
            path=page_of(hub_name.repo),
            fix="check the name of the repository on its page",
        )
    return HubFolder(path, hub_name.repo, path.name)


def find_file(name: HubName | str, file: str) -> Path | None:
    """Download one small file if a repository has it, or find it in the cache.

    Returns
    -------
    Path or None
        None if the repository does not list the file, and also if it cannot be reached: whatever
        is downloaded next reports why.
    """
    from huggingface_hub import errors, snapshot_download

    hub_name = parse_hub_name(name) if isinstance(name, str) else name
    transport: tuple[type[BaseException], ...] = errors.HfHubHTTPError.__bases__
    try:
        folder = snapshot_download(
            hub_name.repo,
            revision=hub_name.revision,
            allow_patterns=[file],
            cache_dir=_cache_folder(),
            endpoint=endpoint(),
            local_files_only=is_offline(),
            library_name="tcgn-mil",
        )
    except (OSError, *transport):  # type: ignore[misc]
        return None
    path = Path(folder) / file
    return path if path.is_file() else None


def cached(repo: str, file: str) -> Path | None:
    """Return the path of a file of the newest revision in the cache, or None. No network is used.

    Examples
    --------
    >>> cached("owner/no-such-encoder", "config.json") is None
    True
    """
    from huggingface_hub import try_to_load_from_cache

    path = try_to_load_from_cache(repo, file, cache_dir=_cache_folder())
    return Path(path) if isinstance(path, str) else None


def upload(
    folder: str | Path,
    name: HubName | str,
    *,
    private: bool = True,
    message: str | None = None,
    replace: Sequence[str] = (),
) -> str:
    """Upload a folder as one commit; the repository and the branch are made if there are none.

    Parameters
    ----------
    folder
        Folder whose files are uploaded.
    name
        Repository and, if not the main one, the branch.
    private
        Whether a repository that is made now is private. One that exists keeps its visibility.
    message
        Message of the commit.
    replace
        Patterns of files that are removed from the repository if the folder does not have them.

    Returns
    -------
    str
        Hash of the commit.

    Raises
    ------
    InputError
        If nobody is logged in, the account may not write there, or the hub cannot be reached.
    """
    from huggingface_hub import HfApi

    hub_name = parse_hub_name(name) if isinstance(name, str) else name
    if is_offline():
        raise InputError(
            f"{hub_name} cannot be uploaded in the offline mode", fix="unset HF_HUB_OFFLINE"
        )
    with _clear_errors(hub_name, "", writing=True):
        api = HfApi(endpoint=endpoint(), library_name="tcgn-mil")
        api.create_repo(hub_name.repo, private=private, exist_ok=True)
        if hub_name.revision is not None:
            api.create_branch(hub_name.repo, branch=hub_name.revision, exist_ok=True)
        commit: Any = api.upload_folder(
            repo_id=hub_name.repo,
            folder_path=str(folder),
            revision=hub_name.revision,
            commit_message=message or "Upload by tcgn-mil",
            delete_patterns=list(replace) or None,
        )
    return str(commit.oid)


def _cache_folder() -> str | None:
    """Return the folder of the cache, or None for that of huggingface_hub."""
    if folder := os.environ.get("HF_HUB_CACHE"):
        return folder
    home = os.environ.get("HF_HOME")
    return str(Path(home) / "hub") if home else None


@contextmanager
def _clear_errors(name: HubName, note: str, *, writing: bool = False) -> Iterator[None]:
    """Turn errors of huggingface_hub into one line that names the page and what to do."""
    from huggingface_hub import errors

    # The classes of its transport library, which differs between versions of huggingface_hub.
    transport: tuple[type[BaseException], ...] = errors.HfHubHTTPError.__bases__
    page, about = page_of(name.repo), f" ({note})" if note else ""
    try:
        yield
    except errors.GatedRepoError:
        raise InputError(
            f"{name.repo} is gated{about}, and this account has no access",
            path=page,
            fix=f"ask for access on this page, then run: {LOGIN}",
        ) from None
    except errors.RevisionNotFoundError:
        raise InputError(
            f"{name.repo} has no revision {name.revision!r}",
            path=page,
            fix="choose a branch, a tag or a commit that its page lists",
        ) from None
    except errors.RepositoryNotFoundError:
        # The hub answers 401 for a private repository and for one that does not exist.
        raise InputError(
            f"there is no repository {name.repo}, or it is private{about}",
            path=page,
            fix=f"check the name; if it is private or gated, run: {LOGIN}",
        ) from None
    except errors.LocalEntryNotFoundError as error:
        if is_offline():
            raise InputError(
                f"{name} is not in the cache{about}, and the offline mode is set",
                path=page,
                fix="unset HF_HUB_OFFLINE, or download it on a machine with network and give"
                " local-dir:<folder>",
            ) from None
        # The library looks into its cache if the hub refuses, and then says that this failed.
        if isinstance(error.__cause__, errors.HfHubHTTPError):
            raise _refused(page, name, about, error.__cause__, writing=writing) from None
        raise _unreachable(page, name, about, error, writing=writing) from None
    except errors.HfHubHTTPError as error:
        raise _refused(page, name, about, error, writing=writing) from None
    except (OSError, *transport) as error:  # type: ignore[misc]
        raise _unreachable(page, name, about, error, writing=writing) from None


def _refused(page: str, name: HubName, about: str, error: Any, *, writing: bool) -> InputError:
    status = getattr(error.response, "status_code", None)
    if status in (401, 403):
        verb = "upload to" if writing else "download"
        return InputError(
            f"{name.repo} does not allow this account to {verb} it (HTTP {status}){about}",
            path=page,
            fix=f"check the access on this page, then run: {LOGIN}",
        )
    return InputError(
        f"the hub answered HTTP {status} for {name}{about}",
        path=page,
        fix="try again later; files that were transferred as a whole are kept",
    )


def _unreachable(
    page: str, name: HubName, about: str, error: Exception, *, writing: bool
) -> InputError:
    cause = f"{type(error.__cause__ or error).__name__}"
    if writing:
        return InputError(
            f"{name} cannot be uploaded: the hub cannot be reached, or the connection was cut"
            f" ({cause})",
            path=page,
            fix="check the network and run again",
        )
    return InputError(
        f"{name} cannot be downloaded{about}: the hub cannot be reached, or the connection was cut"
        f" ({cause})",
        path=page,
        fix="check the network and run again, which continues the download; or download it on"
        " another machine and give local-dir:<folder>",
    )
