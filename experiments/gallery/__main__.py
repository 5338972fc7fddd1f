"""Draw the gallery of figures, and the Markdown that shows them.

``python -m tcgn_mil.experiments.gallery --out FOLDER`` writes one PNG for each figure, with its PDF
and its values where a run writes them, and ``figures.md`` for the documentation.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable
from pathlib import Path

from tcgn_mil.experiments.gallery import maps, outcomes, results
from tcgn_mil.experiments.gallery.entry import Entry
from tcgn_mil.io.atomic import write_text

ENTRIES: tuple[Entry, ...] = (*maps.ENTRIES, *results.ENTRIES, *outcomes.ENTRIES)


def write_gallery(folder: str | Path, entries: Iterable[Entry] = ENTRIES) -> Path:
    """Draw figures, and write the Markdown that shows them.

    Parameters
    ----------
    folder
        Folder to write.
    entries
        Figures to draw.

    Returns
    -------
    Path
        The Markdown file, which names its pictures relative to its own folder.
    """
    folder = Path(folder)
    parts = []
    for entry in entries:
        entry.draw(folder / f"{entry.name}.png")
        parts.append(
            f"## {entry.title}\n\n![{entry.title}]({entry.name}.png)\n\n{entry.text}\n\n"
            f"Written by {entry.made_by}.\n"
        )
    write_text(folder / "figures.md", "\n".join(parts))
    return folder / "figures.md"


def main() -> None:
    """Draw all figures."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--out", default="gallery", help="folder to write")
    print(write_gallery(parser.parse_args().out))


if __name__ == "__main__":
    main()
