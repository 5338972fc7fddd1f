"""Write the shipped table of approved genes from a download of HGNC.

``python -m tcgn_mil.preprocessing.bulk.make_gene_map hgnc_complete_set.txt --date 2024-07-23``
renews the files in ``tcgn_mil/hgnc/``. The same download gives the same bytes.
"""

from __future__ import annotations

import argparse
import gzip
import hashlib
from collections.abc import Iterable
from pathlib import Path

from tcgn_mil.hgnc import gene_map
from tcgn_mil.hgnc.gene_map import COLUMNS, ORIGIN, TABLE, ApprovedGene
from tcgn_mil.io.atomic import atomic_path, write_json
from tcgn_mil.preprocessing.bulk.gene_map import read_hgnc

LICENCE = "CC0 1.0 (https://www.genenames.org/about/license/)"


def write_shipped_map(source: str | Path, folder: str | Path, *, date: str, origin: str) -> None:
    """Write the table of approved genes and a file that states its origin.

    Parameters
    ----------
    source
        HGNC's complete set, or a custom download with the approved, previous and alias symbols, the
        status, and the ids of NCBI and Ensembl.
    folder
        Folder of the two files.
    date
        Day of the download, as ``2024-07-23``.
    origin
        Where the download comes from.
    """
    folder = Path(folder)
    genes = read_hgnc(source)
    content = table_of(genes)
    with atomic_path(folder / TABLE) as temporary:
        # The time and the name in a gzip header would differ from run to run.
        temporary.write_bytes(gzip.compress(content, compresslevel=9, mtime=0))
    write_json(
        folder / ORIGIN,
        {
            "name": "HGNC",
            "date": date,
            "licence": LICENCE,
            "source": "HUGO Gene Nomenclature Committee, https://www.genenames.org",
            "origin": origin,
            "origin_sha256": hashlib.sha256(Path(source).read_bytes()).hexdigest(),
            "genes": len(genes),
            "previous_symbols": sum(len(gene.previous) for gene in genes),
            "made_by": "tcgn_mil.preprocessing.bulk.make_gene_map",
        },
    )


def table_of(genes: Iterable[ApprovedGene]) -> bytes:
    """Return the table of genes as text with tabs, sorted by symbol."""
    rows = [(*gene[:3], "|".join(gene.previous)) for gene in sorted(genes)]
    return "".join("\t".join(row) + "\n" for row in (COLUMNS, *rows)).encode()


def main() -> None:
    """Renew the shipped table."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("source", type=Path, help="HGNC's complete set, or a custom download.")
    parser.add_argument("--date", required=True, help="Day of the download, as 2024-07-23.")
    parser.add_argument("--origin", default="genenames.org", help="Where the download comes from.")
    parser.add_argument("--out", type=Path, default=Path(gene_map.__file__).parent)
    given = parser.parse_args()
    write_shipped_map(given.source, given.out, date=given.date, origin=given.origin)


if __name__ == "__main__":
    main()
