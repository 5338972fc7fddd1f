"""Describe a file on a server: its address, its place in the folder, its size and its checksum."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

MD5, GIT_BLOB = "md5", "git-blob"
_BLOCK_BYTES = 2**20


@dataclass(frozen=True)
class Checksum:
    """A checksum that the source of a file states.

    Attributes
    ----------
    kind
        ``md5``; or ``git-blob``, the name that git gives to the content of a file: SHA-1 of the
        word blob, the size and the content. A commit fixes the names of all its files.
    value
        Hexadecimal digits in lower case.
    """

    kind: Literal["md5", "git-blob"]
    value: str

    def fits(self, path: Path) -> bool:
        """Return whether a file has this checksum.

        Examples
        --------
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = Path(folder, "hello.txt")
        ...     _ = path.write_text("hello")
        ...     (Checksum("md5", "5d41402abc4b2a76b9719d911017c592").fits(path),
        ...      Checksum("git-blob", "b6fc4c620b67d95f953a5c1c1230aaab5db5a1b0").fits(path))
        (True, True)
        """
        # The checksums guard against damage, not against an attacker.
        if self.kind == MD5:
            digest = hashlib.md5(usedforsecurity=False)
        else:
            digest = hashlib.sha1(f"blob {path.stat().st_size}\0".encode(), usedforsecurity=False)
        with path.open("rb") as file:
            while block := file.read(_BLOCK_BYTES):
                digest.update(block)
        return digest.hexdigest() == self.value


@dataclass(frozen=True)
class RemoteFile:
    """A file to download.

    Attributes
    ----------
    name
        Place in the output folder, with ``/`` between its parts.
    url
        Address.
    checksum
        Checksum that the finished file must have.
    size
        Bytes, or None if the source does not state them.
    """

    name: str
    url: str
    checksum: Checksum
    size: int | None = None

    def is_at(self, path: Path) -> bool:
        """Return whether a file at a path has the size and the checksum of this one."""
        if not path.is_file():
            return False
        if self.size is not None and path.stat().st_size != self.size:
            return False
        return self.checksum.fits(path)
