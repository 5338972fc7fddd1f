"""Write the pages that are copied from the repository or made from the code, before each build.

They go to ``docs/generated``, which is not committed. A page of the documentation links to files of
the repository by relative paths, so that it can be read without a build; :func:`relink` replaces
them by links within the site.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

import reference_pages
from sphinx.application import Sphinx

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


def write_pages() -> None:
    """Write all pages of ``docs/generated``; a page that would not change keeps its date."""
    pages = copied_pages()
    for source, target in pages.items():
        _write(target, relink(source.read_text(encoding="utf-8"), source, target, pages))
    for name, text in reference_pages.reference_pages().items():
        _write(GENERATED / name, text)


def provide_demo(app: Sphinx) -> None:
    """Make the small demo that the notebooks read, unless a finished one is named."""
    if app.config.nb_execution_mode == "off":
        return
    from tcgn_mil.experiments.demo.run import run_demo

    out = Path(os.environ.get("TCGN_MIL_DEMO", GENERATED / "demo"))
    if not (out / "report.html").is_file():
        run_demo(out, preset_name="test")
    os.environ["TCGN_MIL_DEMO"] = str(out.resolve())


def relink_source(app: Sphinx, docname: str, source: list[str]) -> None:
    """Rewrite the links of a committed page to pages that are copied."""
    path = Path(app.env.doc2path(docname))
    if path.suffix == ".md" and GENERATED not in path.parents:
        source[0] = relink(source[0], path, path, copied_pages())


def _write(path: Path, text: str) -> None:
    if path.is_file() and path.read_text(encoding="utf-8") == text:
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


def setup(app: Sphinx) -> dict[str, bool]:
    """Register the extension with Sphinx."""
    app.connect("config-inited", lambda app, config: write_pages())
    app.connect("builder-inited", provide_demo)
    app.connect("source-read", relink_source)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
