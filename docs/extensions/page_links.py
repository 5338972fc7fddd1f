"""Pages that are copied into the documentation, and links that stay right where a page is shown.

A page links to files of the repository by relative paths, so that it can be read without a build.
:func:`relink` replaces them by links within the site.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

DOCS = Path(__file__).parents[1]
ROOT = DOCS.parent
GENERATED = DOCS / "generated"
# A link or picture of Markdown with a relative target: text, path, anchor.
_LINK = re.compile(r"(!?)\[((?:[^\[\]]|\[[^\]]*\])*)\]\((?![a-z]+:)([^()#\s]+)(#[^()\s]*)?\)")
_FENCE = re.compile(r"(^ *```.*?^ *```)", flags=re.DOTALL | re.MULTILINE)


def copied_pages() -> dict[Path, Path]:
    """Return the pages of the repository that the site shows, and where each is copied to."""
    results = sorted((ROOT / "experiments" / "results").glob("*.md"))
    pages = {page: GENERATED / "results" / page.name for page in results}
    for name in ("CONTRIBUTING", "CHANGELOG", "SECURITY"):
        if (ROOT / f"{name}.md").is_file():
            pages[ROOT / f"{name}.md"] = GENERATED / f"{name.lower()}.md"
    return pages


def relink(text: str, source: Path, target: Path, pages: dict[Path, Path]) -> str:
    """Rewrite the relative links of a page that is shown at another place.

    Parameters
    ----------
    text
        Markdown.
    source, target
        Path of the page in the repository, and of the page that is built.
    pages
        Pages that are copied, by their path in the repository.

    Returns
    -------
    str
        The text. A link to a copied page leads to the copy, one to the README to the start page. A
        link to a folder becomes plain text, because the site has no page for it.
    """

    def rewrite(match: re.Match[str]) -> str:
        mark, label, path, anchor = match[1], match[2], match[3], match[4] or ""
        named = (source.parent / path).resolve()
        if named == ROOT / "README.md":
            named = DOCS / "index.md"
        named = pages.get(named, named)
        if named.is_dir():
            return label
        return f"{mark}[{label}]({os.path.relpath(named, target.parent)}{anchor})"

    parts = _FENCE.split(text)  # code keeps its brackets
    return "".join(
        part if part.lstrip().startswith("```") else _LINK.sub(rewrite, part) for part in parts
    )
