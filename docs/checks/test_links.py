"""Links within the built site lead to pages and places that exist.

    sphinx-build -W docs site && TCGN_MIL_SITE=site pytest -n0 docs/checks/test_links.py

Sphinx itself warns of links between sources; this test reads the pages as a browser does.
"""

from __future__ import annotations

import os
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest


class Page(HTMLParser):
    """The targets and the names of one page."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.links: set[str] = set()
        self.names: set[str] = set()
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Keep what the tag links to, and its name."""
        for name, value in attrs:
            if value and name in ("href", "src"):
                self.links.add(value)
            elif value and name == "id":
                self.names.add(value)


@pytest.fixture(scope="module")
def pages() -> dict[Path, Page]:
    site = os.environ.get("TCGN_MIL_SITE")
    if site is None:
        pytest.skip("TCGN_MIL_SITE names no built site")
    paths = sorted(Path(site).resolve().rglob("*.html"))
    # Sphinx makes the pages of source code, and names two places in them that do not exist.
    made = {"_static", "_modules"}
    return {path: Page(path) for path in paths if not made & set(path.parts)}


def test_links_within_the_site_resolve(pages: dict[Path, Page]) -> None:
    broken = []
    for path, page in pages.items():
        for link in page.links:
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                continue
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            named = pages.get(target)
            if not target.exists():
                broken.append(f"{path.name} links to {link}")
            elif parts.fragment and named and unquote(parts.fragment) not in named.names:
                broken.append(f"{path.name} links to {link}, a place that is not there")
    assert broken == []


def test_the_site_has_its_parts(pages: dict[Path, Page]) -> None:
    names = {path.name for path in pages}
    assert {"index.html", "believe.html", "slide-cv.html", "encoders.html", "tcga.html"} <= names
