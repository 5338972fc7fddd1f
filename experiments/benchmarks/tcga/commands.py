"""Run the commands of the study of TCGA cohorts, each printed as a user would type it.

A cohort is given by its name alone, for example BRCA. The folder of public data holds, for each
name, slide features (``tcga_hif/brca_hif.csv.gz``), published immune scores
(``tcga_hif/panimmune_brca.csv.gz``) and expression
(``tcga_expression/tcga_brca_all_clean.csv.zip``), and for all cohorts clinical data and covariates.
"""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from tcgn_mil.io.atomic import write_csv

# Columns of the tables that are no features of the slide: HRD comes from DNA.
NOT_FEATURES = ("HRD_Score",)
ENDPOINTS = ("OS", "PFI")
_AGE, _STAGE = "age_at_initial_pathologic_diagnosis", "ajcc_pathologic_tumor_stage"


def tcgn_mil(*words: str | Path) -> None:
    """Print a command and run it.

    Raises
    ------
    CalledProcessError
        If the command fails. Its message is printed before.
    """
    arguments = [str(word) for word in words]
    sys.stdout.write(f"\n$ tcgn-mil {shlex.join(arguments)}\n")
    sys.stdout.flush()
    subprocess.run([sys.executable, "-m", "tcgn_mil.experiments.main", *arguments], check=True)


@dataclass(frozen=True)
class CohortFiles:
    """Files of one cohort.

    Attributes
    ----------
    name
        Name of the cohort, for example BRCA.
    data
        Folder of the public data.
    out
        Folder of the whole study.
    """

    name: str
    data: Path
    out: Path

    @property
    def folder(self) -> Path:
        """Folder of the results of this cohort."""
        return self.out / self.name.lower()

    @property
    def features_table(self) -> Path:
        """Table of slide features; of COADREAD, nuclear features alone are published."""
        if self.name == "COADREAD":
            return self.data / "tcga_slide_features" / "CRC_nucleus_morphology.csv"
        return self.data / "tcga_hif" / f"{self.name.lower()}_hif.csv.gz"

    @property
    def immune_scores(self) -> Path:
        """Published scores of the patients from RNA (Thorsson et al. 2018)."""
        return self.data / "tcga_hif" / f"panimmune_{self.name.lower()}.csv.gz"

    @property
    def has_immune_scores(self) -> bool:
        """Whether the cohort has the features and scores of the study, not genes alone."""
        return self.immune_scores.is_file()

    @property
    def expression(self) -> Path:
        """Table of z-scored RNA."""
        return self.data / "tcga_expression" / f"tcga_{self.name.lower()}_all_clean.csv.zip"

    @property
    def covariates(self) -> Path:
        """Purity, leukocyte fraction and other covariates of all cohorts."""
        return self.data / "tcga_expression" / "tcga_purity_immune_covariates.csv"

    @property
    def features(self) -> Path:
        """Folder of imported features."""
        return self.folder / "features"

    @property
    def cohort(self) -> Path:
        """Expression joined with the slides."""
        return self.folder / "cohort.h5ad"


def import_features(tables: Sequence[Path], out: Path, encoder: str = "hif") -> None:
    """Import tables of slide features as they were published."""
    columns = {name for table in tables for name in pd.read_csv(table, nrows=0).columns}
    left_out = [word for name in NOT_FEATURES if name in columns for word in ("--leave-out", name)]
    tcgn_mil("import-features", *tables, "--encoder", encoder, *left_out, "--out", out)


def prepare(files: CohortFiles) -> None:
    """Import features, join expression, and read clinical data; what is there already is kept."""
    if not (files.features / "slides.csv").is_file():
        encoder = "hif" if files.has_immune_scores else "nuclei"
        import_features([files.features_table], files.features, encoder)
    if not files.cohort.is_file():
        slides = files.features / "slides.csv"
        tcgn_mil(
            "bulk", files.expression, "--unit", "zscore", "--slides", slides, "--out", files.cohort
        )
    if files.has_immune_scores and not (files.folder / "clinical.csv").is_file():
        outcomes = files.data / "tcga_clinical" / "TCGA-CDR_outcome.xlsx"
        covariates = _age_and_stage(outcomes, files)
        endpoints = [word for name in ENDPOINTS for word in ("--endpoint", name)]
        tcgn_mil(
            "clinical",
            *(outcomes, "--format", "tcga-cdr", covariates, "--format", "covariates"),
            *("--covariate", "age", "--covariate", "stage", *endpoints),
            *("--out", files.folder / "clinical.csv"),
        )


def _age_and_stage(outcomes: Path, files: CohortFiles) -> Path:
    """Write age, and stage as I, II, III or IV, of the patients of a cohort."""
    table = pd.read_excel(outcomes, sheet_name=0, index_col="bcr_patient_barcode")
    table = table[table["type"] == files.name.upper()]
    stage = table[_STAGE].str.extract(r"^Stage (IV|III|II|I)", expand=False)
    path = files.folder / "age_and_stage.csv"
    write_csv(
        path,
        pd.DataFrame({"patient_id": table.index, "age": table[_AGE].values, "stage": stage.values}),
    )
    return path


def cross_validate(files: CohortFiles, seeds: Sequence[int]) -> None:
    """Cross-validate genes over seeds, with p-values for the first, and then scores."""
    inputs = ("slide-cv", "--cohort", files.cohort, "--features", files.features)
    for seed in seeds:
        refits = () if seed == seeds[0] else ("--set", "refits=0")
        out = files.folder / "genes" / f"seed{seed}"
        tcgn_mil(*inputs, "--set", f"seed={seed}", *refits, "--out", out)
    scores = (("signatures", "signatures"), ("panimmune", files.immune_scores))
    for name, targets in scores if files.has_immune_scores else ():
        out = files.folder / name
        tcgn_mil(*inputs, "--targets", targets, "--set", "refits=0", "--out", out)


def compare_models(files: CohortFiles) -> None:
    """Cross-validate the other kinds of slide model on the folds of the first seed."""
    for kind in ("ridge", "attention"):
        tcgn_mil(
            *("slide-cv", "--cohort", files.cohort, "--features", files.features),
            *("--kind", kind, "--set", "refits=0", "--out", files.folder / "models" / kind),
        )


def relate(files: CohortFiles, seed: int) -> None:
    """Relate out-of-fold predictions to immune covariates and to survival."""
    run = files.folder / "genes" / f"seed{seed}"
    predicted = run / "out_of_fold.h5ad"
    tcgn_mil(
        *("associate", "--predicted", predicted, "--covariates", files.covariates),
        *("--zero-unknown", "purity", "--adjust-for", "purity"),
        *("--follow", "leukocyte_fraction", "--out", files.folder / "association"),
    )
    for endpoint in ENDPOINTS:
        tcgn_mil(
            *("survive", "--clinical", files.folder / "clinical.csv", "--endpoint", endpoint),
            *("--predicted", predicted, "--covariate", "age", "--covariate", "stage"),
            *("--folds", run / "folds.csv", "--out", files.folder / "survival" / endpoint),
        )


def permute_outcomes(files: CohortFiles, seed: int, permutations: int) -> None:
    """Repeat the analysis of overall survival with the expression of other patients."""
    out = files.folder / "survival" / "OS_permuted.json"
    if out.is_file():
        done = json.loads(out.read_text(encoding="utf-8"))
        count = done["summary"]["permutations"] + len(done.get("permutations_left_out", ()))
        if count >= permutations:
            return
    words = [
        *("--clinical", files.folder / "clinical.csv", "--endpoint", "OS"),
        *("--predicted", files.folder / "genes" / f"seed{seed}" / "out_of_fold.h5ad"),
        *("--covariate", "age", "--covariate", "stage"),
        *("--permutations", permutations, "--out", out),
    ]
    module = "tcgn_mil.experiments.benchmarks.survival_null"
    subprocess.run([sys.executable, "-m", module, *map(str, words)], check=True)


def transfer(target: CohortFiles, others: Sequence[CohortFiles]) -> None:
    """Train on other cohorts and predict the patients of `target`."""
    names = "+".join(files.name.lower() for files in others)
    folder = target.out / "transfer" / f"{names}-to-{target.name.lower()}"
    features = folder / "features"
    if not (folder / "cohort.h5ad").is_file():
        import_features([files.features_table for files in others], features)
        tables: list[str | Path] = [files.expression for files in others]
        slides = features / "slides.csv"
        tcgn_mil(
            "bulk",
            *tables,
            *("--unit", "zscore", "--slides", slides, "--out", folder / "cohort.h5ad"),
        )
    model = folder / "model"
    tcgn_mil(
        *("finetune", "--cohort", folder / "cohort.h5ad", "--features", features, "--out", model)
    )
    tcgn_mil(
        *("predict", "--model", model, "--features", target.features),
        *("--out", folder / "predictions"),
    )
