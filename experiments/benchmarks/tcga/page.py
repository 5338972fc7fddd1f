"""Write the tables of the study of TCGA cohorts into pages, and draw its figure.

A table stands in a page between ``<!-- table NAME -->`` and ``<!-- end -->``; the text around the
tables is kept.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd

from tcgn_mil.errors import InputError
from tcgn_mil.experiments.benchmarks.tcga import measure, tables
from tcgn_mil.experiments.benchmarks.tcga.commands import CohortFiles
from tcgn_mil.io.atomic import write_csv, write_text

FOLLOW = ("leukocyte_fraction", "lymphocyte_infiltration", "immune_subtype")
_PLACE = re.compile(r"(<!-- table (?P<name>[\w-]+) -->\n).*?(<!-- end -->)", re.DOTALL)


def measure_all(cohorts: Sequence[CohortFiles], seeds: Sequence[int]) -> dict[str, pd.DataFrame]:
    """Return all numbers of the study, and write them as CSV into its folder.

    Parameters
    ----------
    cohorts
        Cohorts of the study, whose runs are finished.
    seeds
        Seeds of the folds.
    """
    immune = [files for files in cohorts if files.has_immune_scores]
    every = [(files, split) for files in immune for split in measure.SPLITS]
    found = {
        "genes": measure.genes_over_seeds(cohorts, seeds),
        "models": measure.models(cohorts, seeds[0]),
        "signatures": pd.concat(
            [measure.signatures(files, seeds[0], split) for files, split in every]
        ),
        "panimmune": pd.concat([measure.panimmune(files, split) for files, split in every]),
        "associations": measure.associations(immune, FOLLOW),
        "survival": measure.survival(immune),
        "transfer": measure.transfers(immune),
        "uncertainty": measure.uncertainty(cohorts, seeds[0]),
    }
    for name, table in found.items():
        write_csv(cohorts[0].out / "numbers" / f"{name}.csv", table)
    return found


def rows_of_tables(found: Mapping[str, pd.DataFrame]) -> dict[str, list[list[str]]]:
    """Return the rows of all tables by the name that stands in a page."""
    genes, sets, scores = (found[name] for name in ("genes", "signatures", "panimmune"))
    return {
        "summary": tables.summary_table(genes, sets, scores),
        "genes": tables.genes_table(genes),
        "calibration": tables.calibration_table(genes),
        "models": tables.models_table(found["models"]),
        "signatures": tables.signatures_table(sets, scores),
        "scores": tables.scores_table(scores),
        "transfer": tables.transfer_table(found["transfer"]),
        "associations": tables.associations_table(found["associations"]),
        "survival": tables.survival_table(found["survival"]),
        "uncertainty": tables.uncertainty_table(found["uncertainty"]),
    }


def write_page(path: Path, rows: Mapping[str, Sequence[Sequence[str]]]) -> None:
    """Replace the tables that a page names.

    Raises
    ------
    InputError
        If the page names a table that there is not, or none at all.
    """
    write_text(path, replace_tables(path.read_text(encoding="utf-8"), rows, path=path))


def replace_tables(text: str, rows: Mapping[str, Sequence[Sequence[str]]], *, path: Path) -> str:
    """Return the text of a page with its tables replaced; see :func:`write_page`."""
    names = [match["name"] for match in _PLACE.finditer(text)]
    unknown = [name for name in names if name not in rows]
    if unknown or not names:
        raise InputError(
            f"names the table {unknown[0]}, which is not one" if unknown else "names no table",
            path=path,
            fix="write '<!-- table NAME -->' and '<!-- end -->' on two lines, where NAME is one of"
            f" {', '.join(rows)}",
        )

    def table(match: re.Match[str]) -> str:
        lines = ["| " + " | ".join(row) + " |" for row in rows[match["name"]]]
        lines.insert(1, "|" + "---|" * len(rows[match["name"]][0]))
        return match[1] + "\n".join(lines) + "\n" + match[3]

    return _PLACE.sub(table, text)
