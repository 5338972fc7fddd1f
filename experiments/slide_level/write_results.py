"""What a slide-level run writes: tables, out-of-fold predictions with intervals, figures, summary."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from tcgn_mil.config import as_plain
from tcgn_mil.experiments.runs.run_folder import finish_run
from tcgn_mil.experiments.slide_level.cohort import CohortData
from tcgn_mil.experiments.slide_level.config import FinetuneConfig
from tcgn_mil.experiments.slide_level.evaluate import MODEL, SlideTables, out_of_fold_tables
from tcgn_mil.experiments.slide_level.figures import draw_run
from tcgn_mil.io.atomic import plain_rows, write_csv
from tcgn_mil.io.expression_file import write_predictions
from tcgn_mil.statistics.conformal import ConformalBounds, conformal_bounds
from tcgn_mil.statistics.fold_combination import combine_folds
from tcgn_mil.statistics.gene_metrics import median_over_genes
from tcgn_mil.statistics.out_of_fold import combined_r
from tcgn_mil.statistics.p_values import MAX_Q, benjamini_hochberg, null_p_by_others
from tcgn_mil.types.folds import Fold
from tcgn_mil.types.genes import GenePanel

FEW_PATIENTS, LEAST_REFITS = 10, 50
APPROXIMATE = "approximate p-values: no refits on permuted labels were made (refits=0)"


@dataclass(frozen=True)
class FoldResult:
    """What one fold gives.

    Attributes
    ----------
    fold, panel
        The split, and the genes chosen on its training patients.
    truth, predictions
        (M_test, G_fold), and the same by predictor.
    history
        Loss and score by epoch.
    null_r
        (2, R, C, G_fold) r of refits on permuted labels and the patients it is over, in each of the C cohorts that the
        fold tests; None without.
    """

    fold: Fold
    panel: GenePanel
    truth: NDArray[np.float32]
    predictions: dict[str, NDArray[np.float32]]
    history: list[dict[str, float]]
    null_r: NDArray[np.float32] | None = None


def write_results(
    config: FinetuneConfig,
    data: CohortData,
    results: Sequence[FoldResult],
    out_dir: Path,
    *,
    spot_genes: Sequence[str] = (),
) -> dict[str, Any]:
    """Put the folds together, write tables, predictions and figures; returns the summary, which is written last."""
    panel = GenePanel(
        tuple(dict.fromkeys(gene for result in results for gene in result.panel.genes))
    )
    fold_of = np.concatenate(
        [np.full(len(result.fold.test), result.fold.index) for result in results]
    )
    truth = over_panel(panel, results, [result.truth for result in results])
    predictions = {
        name: over_panel(panel, results, [result.predictions[name] for result in results])
        for name in results[0].predictions
    }
    null_z = _null_z(panel, results)
    tested = [name for result in results for name in result.fold.test]
    donors = {
        name: number
        for number, name in enumerate(dict.fromkeys(data.donors[name] for name in tested))
    }
    tables = out_of_fold_tables(
        panel.genes,
        truth,
        predictions,
        fold_of,
        cohort_of=data.cohort_of(tested),
        donor_of=np.array([donors[data.donors[name]] for name in tested]),
        null_z=null_z,
        replicates=config.replicates,
        seed=config.seed,
    )
    bounds = conformal_bounds(truth, predictions[MODEL], fold_of, stated=config.coverage)
    genes = tables.genes.assign(
        interval_half_width=bounds.half_width, interval_coverage=bounds.coverage_by_gene
    )
    if spot_genes:
        genes["in_spot_panel"] = genes["gene"].isin(set(spot_genes))
    _write_tables(
        config, data, results, panel, fold_of, truth, predictions, genes, tables.headline, out_dir
    )
    draw_run(
        genes,
        tables.headline,
        truth,
        predictions,
        {f"fold {one.fold.index}": one.history for one in results},
        null_z,
        out_dir,
        unit=data.training_unit,
        patients=tested,
        stated=config.coverage,
    )
    return finish_run(
        out_dir,
        _summary(config, data, results, panel, SlideTables(genes, tables.headline), bounds, null_z),
    )


def _null_z(panel: GenePanel, results: Sequence[FoldResult]) -> NDArray[np.float64] | None:
    """(R, G) combined z of each refit, NaN for genes with an r in fewer than three folds."""
    by_fold = [result.null_r for result in results if result.null_r is not None]
    if len(by_fold) < len(results):
        return None
    columns = [result.panel.index_in(panel.genes) for result in results]
    fold_of = np.repeat(np.arange(len(results)), [found.shape[2] for found in by_fold])
    combined = []
    for refit in range(by_fold[0].shape[1]):
        r, n = np.full((2, len(fold_of), len(panel)), np.nan)
        for fold, found in enumerate(by_fold):
            r[np.ix_(fold_of == fold, columns[fold])], n[np.ix_(fold_of == fold, columns[fold])] = (
                found[:, refit]
            )
        combined.append(combine_folds(r, np.nan_to_num(n), fold_of=fold_of).z)
    return np.stack(combined)


def over_panel(
    panel: GenePanel, results: Sequence[FoldResult], values: Sequence[NDArray[np.float32]]
) -> NDArray[np.float32]:
    """Rows of all folds over the union of their genes, NaN where a fold left a gene out."""
    blocks = []
    for result, block in zip(results, values, strict=True):
        full = np.full((len(block), len(panel)), np.nan, dtype=np.float32)
        full[:, result.panel.index_in(panel.genes)] = block
        blocks.append(full)
    return np.concatenate(blocks)


def _write_tables(
    config: FinetuneConfig,
    data: CohortData,
    results: Sequence[FoldResult],
    panel: GenePanel,
    fold_of: NDArray[np.int64],
    truth: NDArray[np.float32],
    predictions: Mapping[str, NDArray[np.float32]],
    genes: pd.DataFrame,
    headline: pd.DataFrame,
    out_dir: Path,
) -> None:
    write_csv(out_dir / "genes.csv", genes)
    chosen = genes[genes["predictable"]].sort_values("r_model", ascending=False, kind="stable")
    write_csv(
        out_dir / "predictable_genes.csv",
        chosen[["gene", "r_model", "low_model", "high_model", "q_model"]],
    )
    write_csv(out_dir / "headline.csv", headline)
    if len(by_source := source_table(data, results, fold_of, truth, predictions)):
        write_csv(out_dir / "cohorts.csv", by_source)
        write_csv(
            out_dir / "cohort_genes.csv",
            _genes_by_source(data, results, panel, fold_of, truth, predictions),
        )
    tested = [name for result in results for name in result.fold.test]
    obs = pd.DataFrame(
        {"fold": fold_of, "n_slides": [len(data.slides[name]) for name in tested]},
        index=pd.Index(tested, name="patient_id"),
    )
    if data.cohorts:
        obs["cohort"] = [data.cohorts[name] for name in tested]
    if len({data.donors[name] for name in tested}) < len(tested):
        obs["donor"] = [data.donors[name] for name in tested]
    half = genes["interval_half_width"].to_numpy(np.float32)
    layers = {"truth": truth, "low": predictions[MODEL] - half, "high": predictions[MODEL] + half}
    write_predictions(
        out_dir / "out_of_fold.h5ad",
        predictions[MODEL],
        obs,
        panel,
        unit=data.training_unit,
        layers=layers,
        var=genes.set_index("gene"),
        config=as_plain(config),
        obsm={f"baseline_{name}": values for name, values in predictions.items() if name != MODEL},
    )


def source_table(
    data: CohortData,
    results: Sequence[FoldResult],
    fold_of: NDArray[np.int64],
    truth: NDArray[np.float32],
    predictions: Mapping[str, NDArray[np.float32]],
) -> pd.DataFrame:
    """Median r of each predictor among the patients of each source; empty where all are of one.

    r within folds and a source: between cohorts, expression and slides differ together.
    """
    tested = [name for result in results for name in result.fold.test]
    source_of = np.array([data.sources.get(name, "") for name in tested])
    rows = []
    for source in np.unique(source_of) if len(np.unique(source_of)) > 1 else ():
        inside = source_of == source
        for name, predicted in predictions.items():
            found = combined_r(truth[inside], predicted[inside], fold_of[inside])
            rows.append(
                {
                    "source": source,
                    "patients": int(inside.sum()),
                    "predictor": name,
                    "median_r": median_over_genes(found.r),
                    "genes": int(np.isfinite(found.r).sum()),
                }
            )
    return pd.DataFrame(rows)


def _genes_by_source(
    data: CohortData,
    results: Sequence[FoldResult],
    panel: GenePanel,
    fold_of: NDArray[np.int64],
    truth: NDArray[np.float32],
    predictions: Mapping[str, NDArray[np.float32]],
) -> pd.DataFrame:
    """The model's r of each gene among the patients of each source, within folds."""
    source_of = np.array([data.sources[name] for result in results for name in result.fold.test])
    parts = []
    for source in np.unique(source_of):
        inside = source_of == source
        found = combined_r(truth[inside], predictions[MODEL][inside], fold_of[inside])
        n = np.isfinite(truth[inside]).sum(axis=0)
        parts.append(
            pd.DataFrame({"gene": panel.genes, "source": source, "n": n, f"r_{MODEL}": found.r})
        )
    return pd.concat(parts)


def _summary(
    config: FinetuneConfig,
    data: CohortData,
    results: Sequence[FoldResult],
    panel: GenePanel,
    tables: SlideTables,
    bounds: ConformalBounds,
    null_z: NDArray[np.float64] | None,
) -> dict[str, Any]:
    leaking = [name for result in results for name in leaking_patients(result.fold, data.donors)]
    labels = [] if null_z is not None else [APPROXIMATE]
    if null_z is not None and len(null_z) < LEAST_REFITS:
        labels.append(f"p-values from {len(null_z)} refits, fewer than {LEAST_REFITS}")
    if data.cohorts:
        labels.append(
            f"{len(set(data.cohorts.values()))} cohorts: expression standardised, and r, within each"
        )
        labels += [
            f"fold {result.fold.index} trains on no patient of {cohort}: not standardised within it"
            for result in results
            for cohort in _untrained_cohorts(data, result.fold)
        ]
    if leaking:
        labels.append("patient leakage")
    if (people := len({data.donors[name] for name in data.patients})) < FEW_PATIENTS:
        labels.append(f"only {people} patients: nothing can be said of genes")
    genes = tables.genes
    return {
        "patients": len(genes) and int(sum(len(result.fold.test) for result in results)),
        "genes": len(panel),
        "folds": len(results),
        "unit": data.training_unit,
        "encoder": data.encoder,
        "dropped": len(data.dropped),
        "patient_leakage": leaking,
        "labels": labels,
        "predictable": int(genes["predictable"].sum()),
        "sequoia": int(genes["sequoia"].sum()) if "sequoia" in genes else None,
        "coverage": {
            "stated": config.coverage,
            "measured": bounds.coverage if np.isfinite(bounds.coverage) else None,
        },
        "null": None if null_z is None else _null_summary(null_z),
        "headline": plain_rows(tables.headline),
    }


def _null_summary(null_z: NDArray[np.float64]) -> dict[str, Any]:
    """Spread of the null, and how it calibrates: each refit judged by the others (PROTOCOL: 4 to 6 %, at most 10 %)."""
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
    """Test patients whose donor also trains or validates: sections of one donor, where folds came from a file."""
    used = {donors[name] for name in (*fold.train, *fold.val)}
    return [name for name in fold.test if donors[name] in used]
