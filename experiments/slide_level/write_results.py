"""Write the tables, predictions, figures and summary of a slide-level run."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from tcgn_mil.config import as_plain
from tcgn_mil.experiments.runs.run_folder import finish_run
from tcgn_mil.experiments.slide_level.config import FinetuneConfig
from tcgn_mil.experiments.slide_level.evaluate import MODEL, SlideTables, out_of_fold_tables
from tcgn_mil.experiments.slide_level.figures import draw_run
from tcgn_mil.experiments.slide_level.fold_results import FoldResult, OutOfFold, join_folds
from tcgn_mil.experiments.slide_level.inputs.cohort import CohortData
from tcgn_mil.experiments.slide_level.uncertainty import (
    draw_uncertainty,
    patient_uncertainty,
    uncertainty_table,
)
from tcgn_mil.inference.reference_file import read_reference
from tcgn_mil.io.atomic import plain_rows, write_csv
from tcgn_mil.io.expression_file import write_predictions
from tcgn_mil.statistics.conformal import ConformalBounds, conformal_bounds
from tcgn_mil.statistics.gene_metrics import median_over_genes
from tcgn_mil.statistics.out_of_fold import combined_r
from tcgn_mil.statistics.p_values import MAX_Q, benjamini_hochberg, null_p_by_others
from tcgn_mil.types.features import untrained_labels
from tcgn_mil.types.folds import Fold

FEW_PATIENTS, FEWEST_REFITS = 10, 50
_SHOWN_BESIDE = ("patients", "genes", "predictable", "coverage", "null", "headline")
APPROXIMATE = "approximate p-values: no refits on permuted labels were made (refits=0)"


def write_results(
    config: FinetuneConfig,
    data: CohortData,
    results: Sequence[FoldResult],
    out_dir: Path,
    *,
    spot_genes: Sequence[str] = (),
    beside: Mapping[str, Any] | None = None,
    labels: Sequence[str] = (),
) -> dict[str, Any]:
    """Join the folds, and write tables, predictions and figures.

    Parameters
    ----------
    config
        Config of the run.
    data
        The cohort.
    results
        Results of all folds.
    out_dir
        Folder of the run.
    spot_genes
        Genes of the spots on which the encoder was trained; they are marked in ``genes.csv``.
    beside
        Summary of the run with folds by patient, if this run keeps sites together.
    labels
        Qualifications of the results beside those that follow from the tables.

    Returns
    -------
    The summary, which is written last because it marks the run as complete.
    """
    joined = join_folds(data, results)
    tables = out_of_fold_tables(
        joined.panel.genes,
        joined.truth,
        joined.predictions,
        joined.groups,
        null_z=joined.null_z,
        replicates=config.replicates,
        seed=config.seed,
    )
    bounds = conformal_bounds(
        joined.truth,
        joined.predictions[MODEL],
        joined.groups.fold_of,
        stated_coverage=config.coverage,
    )
    genes = tables.genes.assign(
        interval_half_width=bounds.half_width, interval_coverage=bounds.coverage_by_gene
    )
    if spot_genes:
        genes["in_spot_panel"] = genes["gene"].isin(set(spot_genes))
    tables = SlideTables(genes, tables.headline)
    _write_tables(data, joined, tables, out_dir)
    patients = patient_uncertainty(joined, bounds, read_reference(out_dir))
    _write_out_of_fold(config, data, joined, genes, patients, out_dir)
    _write_uncertainty(config, data, joined, bounds, patients, out_dir)
    draw_run(tables, joined, out_dir, unit=data.training_unit, stated_coverage=config.coverage)
    summary = _summary(config, data, results, joined, tables, bounds)
    summary["labels"] = [*labels, *summary["labels"]]
    if beside is not None:
        write_csv(out_dir / "splits.csv", _both_splits(tables.headline, beside))
        summary["by_patient"] = {name: beside[name] for name in _SHOWN_BESIDE}
    return finish_run(out_dir, summary)


def _both_splits(by_site: pd.DataFrame, beside: Mapping[str, Any]) -> pd.DataFrame:
    """Return the headline with folds by site and, below it, the one with folds by patient."""
    return pd.concat(
        [
            by_site.assign(folds_by="site"),
            pd.DataFrame(beside["headline"]).assign(folds_by="patient"),
        ]
    )


def _write_tables(data: CohortData, joined: OutOfFold, tables: SlideTables, out_dir: Path) -> None:
    genes = tables.genes
    write_csv(out_dir / "genes.csv", genes)
    chosen = genes[genes["predictable"]].sort_values("r_model", ascending=False, kind="stable")
    write_csv(
        out_dir / "predictable_genes.csv",
        chosen[["gene", "r_model", "low_model", "high_model", "q_model"]],
    )
    write_csv(out_dir / "headline.csv", tables.headline)
    if len(by_source := source_table(data, joined)):
        write_csv(out_dir / "cohorts.csv", by_source)
        write_csv(out_dir / "cohort_genes.csv", _genes_by_source(data, joined))


def _write_uncertainty(
    config: FinetuneConfig,
    data: CohortData,
    joined: OutOfFold,
    bounds: ConformalBounds,
    patients: pd.DataFrame,
    out_dir: Path,
) -> None:
    table = uncertainty_table(data, joined, bounds, patients)
    write_csv(out_dir / "uncertainty.csv", table)
    if patients["interval_coverage"].notna().any():
        draw_uncertainty(
            table,
            patients,
            bounds.coverage_by_gene,
            out_dir / "uncertainty.png",
            stated_coverage=config.coverage,
        )


def _write_out_of_fold(
    config: FinetuneConfig,
    data: CohortData,
    joined: OutOfFold,
    genes: pd.DataFrame,
    patients: pd.DataFrame,
    out_dir: Path,
) -> None:
    """Write ``out_of_fold.h5ad``: predictions, measured values, interval bounds and baselines."""
    obs = pd.DataFrame(
        {
            "fold": joined.groups.fold_of,
            "n_slides": [len(data.slides[name]) for name in joined.patients],
        },
        index=pd.Index(joined.patients, name="patient_id"),
    )
    if data.cohorts:
        obs["cohort"] = [data.cohorts[name] for name in joined.patients]
    if len({data.donors[name] for name in joined.patients}) < len(joined.patients):
        obs["donor"] = [data.donors[name] for name in joined.patients]
    obs = obs.join(patients)
    predicted = joined.predictions[MODEL]
    # The interval of a gene has the same width for all patients: it is a quantile of the absolute
    # out-of-fold residuals (docs/protocol.md, section Uncertainty).
    half = genes["interval_half_width"].to_numpy(np.float32)
    write_predictions(
        out_dir / "out_of_fold.h5ad",
        predicted,
        obs,
        joined.panel,
        unit=data.training_unit,
        layers={"truth": joined.truth, "low": predicted - half, "high": predicted + half},
        var=genes.set_index("gene"),
        config=as_plain(config),
        obsm={
            f"baseline_{name}": values
            for name, values in joined.predictions.items()
            if name != MODEL
        },
    )


def _by_source(data: CohortData, joined: OutOfFold) -> Iterator[tuple[str, NDArray[np.bool_]]]:
    """Give each expression table with a mask of its tested patients; none if there is only one."""
    source_of = np.array([data.sources.get(name, "") for name in joined.patients])
    sources = np.unique(source_of)
    if len(sources) > 1:
        for source in sources:
            yield source, source_of == source


def source_table(data: CohortData, joined: OutOfFold) -> pd.DataFrame:
    """Return the median r of each predictor among the patients of each expression table.

    r is taken within folds and one table, because between cohorts expression and the look of the
    slides differ together, so that r over both would measure the difference of the cohorts. The
    table is empty if all patients come from one.
    """
    rows = []
    for source, inside in _by_source(data, joined):
        for name, predicted in joined.predictions.items():
            combined = combined_r(
                joined.truth[inside], predicted[inside], joined.groups.fold_of[inside]
            )
            rows.append(
                {
                    "source": source,
                    "patients": int(inside.sum()),
                    "predictor": name,
                    "median_r": median_over_genes(combined.r),
                    "genes": int(np.isfinite(combined.r).sum()),
                }
            )
    return pd.DataFrame(rows)


def _genes_by_source(data: CohortData, joined: OutOfFold) -> pd.DataFrame:
    """Return the model's r of each gene among the patients of each expression table."""
    parts = []
    for source, inside in _by_source(data, joined):
        truth, predicted = joined.truth[inside], joined.predictions[MODEL][inside]
        combined = combined_r(truth, predicted, joined.groups.fold_of[inside])
        n = np.isfinite(truth).sum(axis=0)
        parts.append(
            pd.DataFrame(
                {"gene": joined.panel.genes, "source": source, "n": n, f"r_{MODEL}": combined.r}
            )
        )
    return pd.concat(parts)


def _summary(
    config: FinetuneConfig,
    data: CohortData,
    results: Sequence[FoldResult],
    joined: OutOfFold,
    tables: SlideTables,
    bounds: ConformalBounds,
) -> dict[str, Any]:
    leaking = [name for result in results for name in leaking_patients(result.fold, data.donors)]
    genes = tables.genes
    return {
        "patients": len(genes) and len(joined.patients),
        "genes": len(joined.panel),
        "folds": len(results),
        "unit": data.training_unit,
        "encoder": data.encoder,
        "model": config.model.kind,
        "targets": config.targets,
        "folds_by": config.group_by,
        "dropped": len(data.dropped),
        "patient_leakage": leaking,
        "labels": _labels(data, results, joined, leaking),
        "predictable": int(genes["predictable"].sum()),
        "sequoia": int(genes["sequoia"].sum()) if "sequoia" in genes else None,
        "coverage": {
            "stated": config.coverage,
            "measured": bounds.coverage if np.isfinite(bounds.coverage) else None,
        },
        "null": None if joined.null_z is None else _null_summary(joined.null_z),
        "headline": plain_rows(tables.headline),
    }


def _labels(
    data: CohortData, results: Sequence[FoldResult], joined: OutOfFold, leaking: Sequence[str]
) -> list[str]:
    """Return the qualifications that are printed beside every number of the run."""
    labels = untrained_labels(data.encoder)
    if joined.null_z is None:
        labels.append(APPROXIMATE)
    elif len(joined.null_z) < FEWEST_REFITS:
        labels.append(f"p-values from {len(joined.null_z)} refits, fewer than {FEWEST_REFITS}")
    if data.cohorts:
        labels.append(
            f"{len(set(data.cohorts.values()))} cohorts: expression is standardised, and r taken,"
            " within each"
        )
        labels += [
            f"fold {result.fold.index} trains on no patient of {cohort}: its expression is not"
            " standardised within the cohort"
            for result in results
            for cohort in _untrained_cohorts(data, result.fold)
        ]
    if leaking:
        labels.append("patient leakage")
    if (people := len({data.donors[name] for name in data.patients})) < FEW_PATIENTS:
        labels.append(f"only {people} patients: too few to judge single genes")
    return labels


def _null_summary(null_z: NDArray[np.float64]) -> dict[str, Any]:
    """Return the spread of the null distribution and how well it is calibrated.

    Each refit is judged by all the others, as if it were the model. Since nothing is to be found
    in permuted labels, the share of genes with p < 0.05 should be 4 to 6 %, and at most 10 % of
    the refits should have any gene with q < 0.05 (docs/protocol.md, section Calibration).
    """
    refits = len(null_z)
    null_z = null_z[np.isfinite(null_z).any(axis=1)]
    if len(null_z) < 2:
        return {"refits": refits, "refits_with_r": len(null_z)}
    shares, hits = [], []
    for p in null_p_by_others(null_z):
        shares.append(float(np.mean(p[np.isfinite(p)] < 0.05)))
        hits.append(bool((benjamini_hochberg(p) < MAX_Q).any()))
    return {
        "refits": refits,
        "refits_with_r": len(null_z),
        "mean_z": float(np.nanmean(null_z)),
        "sd_z": float(np.nanstd(null_z)),
        "share_below_0.05": float(np.mean(shares)),
        "runs_with_any_q_below_0.05": float(np.mean(hits)),
    }


def _untrained_cohorts(data: CohortData, fold: Fold) -> list[str]:
    return sorted(
        {data.cohorts[name] for name in fold.test} - {data.cohorts[name] for name in fold.train}
    )


def leaking_patients(fold: Fold, donors: Mapping[str, str]) -> list[str]:
    """Return the test patients whose donor also trains or validates.

    This happens only with folds from a file, where rows of a cohort are sections of one donor.

    Examples
    --------
    >>> fold = Fold(0, train=("a1",), val=("b1",), test=("a2", "c1"))
    >>> leaking_patients(fold, {"a1": "a", "a2": "a", "b1": "b", "c1": "c"})
    ['a2']
    """
    used = {donors[name] for name in (*fold.train, *fold.val)}
    return [name for name in fold.test if donors[name] in used]
