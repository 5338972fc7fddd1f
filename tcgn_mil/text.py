"""Writing results: to a temporary name first, then renamed, each with what made it.

A file under its final name is always whole, so a run that was killed can trust what it finds.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    pass


def content_hash(value: Any) -> str:
    """First 16 hex digits of the SHA-256 of a JSON-serialisable value, for comparing specs and panels."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()[:16]


def duplicates(names: Iterable[str]) -> list[str]:
    """Names that occur more than once, each once, in order of their second occurrence."""
    seen: set[str] = set()
    repeated: dict[str, None] = {}
    for name in names:
        if name in seen:
            repeated[name] = None
        seen.add(name)
    return list(repeated)


def preview(names: Sequence[str], *, most: int = 5) -> str:
    """``A, B, C and 7 more``: the first few of a list for a one-line message."""
    shown = ", ".join(str(name) for name in names[:most])
    return f"{shown} and {len(names) - most} more" if len(names) > most else shown
