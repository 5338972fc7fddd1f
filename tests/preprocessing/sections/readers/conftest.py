"""Sections in .h5ad as scanpy gives them, and no drawing of overlays where a test asks for it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import scanpy
from anndata_sections import Change, MakeVisium

from tcgn_mil.preprocessing.sections import writer as section_writer


@pytest.fixture
def plain_overlays(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave out the drawing, half a second per section, unless the section is a real one."""
    if "realdata" not in request.keywords:
        monkeypatch.setattr(
            section_writer,
            "write_overlay",
            lambda path, *args, **kwargs: path.write_bytes(b"picture"),
        )


@pytest.fixture
def make_h5ad(make_visium: MakeVisium, tmp_path: Path) -> Callable[..., Path]:
    """Write a section as scanpy.read_visium gives it to ``{name}.h5ad``, with unique names."""

    def write(name: str = "S1", change: Change | None = None, *, under: str = "") -> Path:
        folder = make_visium(name, matrix="h5")
        adata = scanpy.read_visium(folder, library_id=f"lib_{name}")
        adata.var_names_make_unique()
        if change is not None:
            change(adata)
        path = tmp_path / under / f"{name}.h5ad"
        path.parent.mkdir(parents=True, exist_ok=True)
        adata.write_h5ad(path)
        return path

    return write
