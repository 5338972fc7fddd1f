"""Write the pages that are copied from the repository or made from the code, before each build.

They go to ``docs/generated``, which is not committed.
"""

from __future__ import annotations

import os
from pathlib import Path

import reference_pages
from page_links import GENERATED, copied_pages, relink
from sphinx.application import Sphinx

from tcgn_mil.experiments.gallery.__main__ import write_gallery


def write_pages() -> None:
    """Write all pages of ``docs/generated``; a page that would not change keeps its date."""
    pages = copied_pages()
    for source, target in pages.items():
        _write(target, relink(source.read_text(encoding="utf-8"), source, target, pages))
    for name, text in reference_pages.reference_pages().items():
        _write(GENERATED / name, text)
    write_gallery(GENERATED / "gallery")


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
