"""Run the study of TCGA cohorts and write its page.

    python -m tcgn_mil.experiments.benchmarks.tcga --data DATA --out runs/tcga \\
        --cohort BRCA --cohort LUAD --cohort LUSC --cohort COADREAD --seeds 5 \\
        --page experiments/results/tcga.md

Every step is a command of ``tcgn-mil``, which is printed. Finished steps are not run again. With
``--tables`` nothing is run, and the page is written from the folders of an earlier study.
"""

from __future__ import annotations

import argparse
from itertools import combinations
from pathlib import Path

from tcgn_mil.experiments.benchmarks.tcga import commands
from tcgn_mil.experiments.benchmarks.tcga.page import write_page


def main() -> None:
    """Parse the arguments, run the commands and write the page."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True, help="folder of the public data")
    parser.add_argument("--out", type=Path, default=Path("runs/tcga"), help="folder of all runs")
    parser.add_argument("--cohort", action="append", help="name of a cohort; repeatable")
    parser.add_argument("--seeds", type=int, default=5, help="number of seeds of the folds")
    parser.add_argument("--permutations", type=int, default=50, help="of outcomes, for survival")
    parser.add_argument("--page", type=Path, help="page whose tables are replaced")
    parser.add_argument("--tables", action="store_true", help="run nothing, only write the page")
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
            commands.permute_outcomes(files, seeds[0], asked.permutations)
        for target in cohorts_of_study:
            others = [files for files in cohorts_of_study if files is not target]
            for size in range(1, len(others) + 1):
                for chosen in combinations(others, size):
                    commands.transfer(target, chosen)
    if asked.page is not None:
        write_page(asked.page, cohorts, seeds)


if __name__ == "__main__":
    main()
