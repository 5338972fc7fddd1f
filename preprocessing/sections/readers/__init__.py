"""Read sections of spatial transcriptomics; each layout is one module, registered in READERS.

To add a layout, write a module with a :class:`SectionReader` and register it here, or call
:func:`register_section_reader` from your own code.
"""

from __future__ import annotations

from pathlib import Path

from tcgn_mil.errors import InputError
from tcgn_mil.preprocessing.sections.readers import h5ad, her2st, hest
from tcgn_mil.preprocessing.sections.readers.base import SectionReader
from tcgn_mil.preprocessing.sections.readers.spatial_store import reader as spatial_store
from tcgn_mil.preprocessing.sections.readers.tenx import visium, xenium
from tcgn_mil.registry import add_entry

READERS: dict[str, SectionReader] = {}


def register_section_reader(reader: SectionReader) -> None:
    """Add a layout of sections.

    Layouts are tried in reverse order of registration. A name that is taken raises InputError.
    """
    add_entry(READERS, reader.name, reader, what="layout of sections")


# Stores of SpatialData are tried first, because their metadata name them. A HEST folder is tried
# before Visium, and her2st before both: they are recognised by folders of fixed names. A folder of
# .h5ad files is tried last, because Visium folders may hold such files.
for _module in (h5ad, visium, xenium, hest, her2st, spatial_store):
    register_section_reader(_module.READER)


def layout_names() -> tuple[str, ...]:
    """Return the names for ``--format``: ``auto``, then the layouts in the order they are tried."""
    return ("auto", *reversed(READERS))


def known_layouts() -> str:
    """Describe the contents of all layouts, for messages."""
    return ", ".join(reader.contents for reader in reversed(READERS.values()))


def detect_format(source: Path) -> str:
    """Return the name of the layout that a folder or file has.

    Raises
    ------
    InputError
        If it has none of the registered layouts.
    """
    for reader in reversed(READERS.values()):
        if reader.is_layout(source):
            return reader.name
    raise InputError(
        "holds no section in a layout that is known",
        path=source,
        fix=f"give one of: {known_layouts()}, or a table with column path",
    )
