"""Run the study of TCGA cohorts and write its pages.

    python -m tcgn_mil.experiments.benchmarks.tcga --data DATA --out runs/tcga \\
        --cohort BRCA --cohort LUAD --cohort LUSC --cohort COADREAD --seeds 5 \\
        --page experiments/results/tcga.md --page README.md \\
        --figure experiments/results/tcga.png

Every step is a command of ``tcgn-mil``, which is printed. Finished steps are not run again. With
``--tables`` nothing is run, and the pages are written from the folders of an earlier study.
"""

from __future__ import annotations

import argparse
from itertools import combinations
from pathlib import Path

from tcgn_mil.experiments.benchmarks.tcga import commands
from tcgn_mil.experiments.benchmarks.tcga.figures import draw_overview
from tcgn_mil.experiments.benchmarks.tcga.page import measure_all, rows_of_tables, write_page


def main() -> None:
    """Parse the arguments, run the commands and write the pages."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True, help="folder of the public data")
    parser.add_argument("--out", type=Path, default=Path("runs/tcga"), help="folder of all runs")
    parser.add_argument("--cohort", action="append", help="name of a cohort; repeatable")
    parser.add_argument("--seeds", type=int, default=5, help="number of seeds of the folds")
    parser.add_argument("--permutations", type=int, default=50, help="of outcomes, for survival")
    parser.add_argument(
        "--page", type=Path, action="append", default=[], help="page whose tables are replaced"
    )
    parser.add_argument("--figure", type=Path, help="PNG file to write")
    parser.add_argument("--tables", action="store_true", help="run nothing, only write the pages")
    asked = parser.parse_args()
    names = asked.cohort or ["BRCA", "LUAD", "LUSC", "COADREAD"]
    cohorts = [commands.CohortFiles(name.upper(), asked.data, asked.out) for name in names]
    seeds = range(asked.seeds)
    if not asked.tables:
        for files in cohorts:
            commands.prepare(files)
            commands.cross_validate(files, seeds)
            commands.compare_models(files)
        cohorts_of_study = [files for files in cohorts if files.has_immune_scores]
        for files in cohorts_of_study:
            commands.relate(files, seeds[0])
        for target in cohorts_of_study:
            others = [files for files in cohorts_of_study if files is not target]
            for size in range(1, len(others) + 1):
                for chosen in combinations(others, size):
                    commands.transfer(target, chosen)
        for files in cohorts_of_study:
            commands.permute_outcomes(files, seeds[0], asked.permutations)
    if asked.page or asked.figure is not None:
        found = measure_all(cohorts, seeds)
        rows = rows_of_tables(found)
        for page in asked.page:
            write_page(page, rows)
        if asked.figure is not None:
            draw_overview(found, cohorts, seeds[0], asked.figure)


if __name__ == "__main__":
    main()
