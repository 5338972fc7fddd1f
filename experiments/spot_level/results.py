"""Evaluate the networks of a fold on sections; write tables, predictions and figures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from tcgn_mil.config import as_plain
from tcgn_mil.errors import InputError
from tcgn_mil.experiments.runs import figures
from tcgn_mil.experiments.runs.spot_map_figure import spot_maps
from tcgn_mil.experiments.spot_level.evaluate import (
    MODEL,
    SectionResults,
    baseline_predictions,
    section_results,
)
from tcgn_mil.experiments.spot_level.inputs.section_picture import mapped_section
from tcgn_mil.experiments.spot_level.inputs.study import SpotStudy
from tcgn_mil.experiments.spot_level.inputs.targets import stack_targets
from tcgn_mil.experiments.spot_level.train_network import TrainedNetwork, predict_section
from tcgn_mil.io.atomic import write_csv
from tcgn_mil.io.expression_file import write_predictions
from tcgn_mil.plotting import r_text
from tcgn_mil.statistics.gene_metrics import median_over_genes, pearson
from tcgn_mil.statistics.sequencing_depth import DETECTION_FLOOR
from tcgn_mil.text import preview

_MAPPED_GENES = 4


def evaluate(
    study: SpotStudy,
    networks: Mapping[str, Sequence[TrainedNetwork]],
    names: Sequence[str],
    out_dir: Path,
) -> dict[str, SectionResults]:
    """Evaluate networks on sections beside the baselines, and write the results of each section.

    Parameters
    ----------
    study
        The fold.
    networks
        Networks by predictor; the predictions of a predictor's networks are averaged.
        :data:`MODEL` is the predictor that the run is about.
    names
        Sections to predict. No network was trained on them. Where they are validation sections,
        they chose the epoch, and the baselines do not see them either.
    out_dir
        Folder to write.

    Returns
    -------
    dict
        Results by section.
    """
    # The baselines may use what the network saw: training and validation sections. If validation
    # sections are judged, they have to be left out.
    fitted = study.split.train_and_val if study.split.test else study.train
    colour = study.colour(fitted)
    train = study.stacked(fitted)
    other, others = study.other_normalisation((*fitted, *names))
    results = {}
    for name in names:
        test, own_colour = study.targets[name], study.colour([name])
        predictions = {key: average_predictions(study, networks[key], name) for key in networks}
        predictions |= baseline_predictions(train, colour, test, own_colour)
        section = section_results(
            study.panel, test, predictions, section=name, normalisation=study.config.normalisation
        )
        # Every table gives plain r in both normalisations (docs/protocol.md, section Baselines).
        # Baselines are fitted again for the other one. The network is not: its predictions are
        # compared with the values of the other normalisation as they are.
        refitted = baseline_predictions(
            stack_targets([others[key] for key in fitted]), colour, others[name], own_colour
        )
        plain = _plain_medians(others[name].expression, predictions | refitted)
        section.summary["other_normalisation"] = other
        section.summary["median_r_all_other"] = section.summary["predictor"].map(plain)
        write_section(study, name, predictions[MODEL], section, out_dir)
        results[name] = section
    return results


def average_predictions(
    study: SpotStudy, trained: Sequence[TrainedNetwork], name: str
) -> NDArray[np.float32]:
    """Return the mean prediction of several networks for a section.

    Returns
    -------
    ndarray
        (S, G) float32, in the unit of the section's targets.
    """
    patches = study.sections[name].patches()
    parts = [
        item.info.head_scaler.unscale(predict_section(item.model, item.info, patches, study.config))
        for item in trained
    ]
    return np.asarray(np.mean(parts, axis=0, dtype=np.float64), dtype=np.float32)


def _plain_medians(
    truth: NDArray[np.float32], predictions: Mapping[str, NDArray[np.float32]]
) -> dict[str, float]:
    """Return the median plain r over all genes by predictor, over the spots that have a value."""
    finite = np.isfinite(truth).all(axis=1)
    return {
        name: median_over_genes(pearson(truth[finite], values[finite]))
        for name, values in predictions.items()
    }


def write_section(
    study: SpotStudy,
    name: str,
    predicted: NDArray[np.float32],
    results: SectionResults,
    out_dir: Path,
) -> None:
    """Write what one section gives.

    The files are ``genes_<section>.csv``, ``predictable_<section>.csv``,
    ``predicted_<section>.h5ad`` (AnnData that squidpy can draw), ``maps_<section>.png`` and
    ``genes_<section>.png``.
    """
    section, truth, table = study.sections[name], study.targets[name].expression, results.genes
    write_csv(out_dir / f"genes_{name}.csv", table)
    if "predictable" in table:
        names = table.loc[table["predictable"], ["gene", f"depth_adjusted_r_{MODEL}", f"q_{MODEL}"]]
        write_csv(
            out_dir / f"predictable_{name}.csv",
            names.sort_values(f"depth_adjusted_r_{MODEL}", ascending=False),
        )
    write_predictions(
        out_dir / f"predicted_{name}.h5ad",
        predicted,
        section.obs().assign(total_counts=section.totals),
        study.panel,
        unit=study.scaler.transform,
        layers={"truth": truth},
        var=table.set_index("gene"),
        obsm={"spatial": section.spatial()},
        config=as_plain(study.config),
        fold=study.split.name,
        trained_on=list(study.train),
        patient_leakage=list(study.split.leaking),
    )
    shown = genes_to_map(table, study.config.map_genes)
    spot_maps(
        mapped_section(section),
        table.loc[shown, "gene"].tolist(),
        truth[:, shown],
        predicted[:, shown],
        out_dir / f"maps_{name}.png",
        unit=str(study.scaler.transform),
        title=f"section {name}",
        notes=[
            f"depth-adjusted r {r_text(row.depth_adjusted_r_model)}"
            for row in table.loc[shown].itertuples()
        ],
    )
    seen = table["detection"] >= DETECTION_FLOOR
    figures.gene_distributions(
        {
            column.removeprefix("depth_adjusted_r_"): table.loc[seen, column].to_numpy()
            for column in table.columns.astype(str)
            if column.startswith("depth_adjusted_r_") and table[column].notna().any()
        },
        out_dir / f"genes_{name}.png",
        xlabel=f"depth-adjusted r, section {name}, genes in >= 20 % of spots",
    )


def genes_to_map(table: pd.DataFrame, asked: Sequence[str]) -> list[int]:
    """Return the rows of the genes to draw.

    Parameters
    ----------
    table
        The section's genes.
    asked
        Genes that the config names. Without any, the best predicted genes are drawn, among those
        that are seen in enough spots.
    """
    if asked:
        rows = {gene: row for row, gene in enumerate(table["gene"])}
        return [rows[gene] for gene in asked if gene in rows]
    seen = table["detection"] >= DETECTION_FLOOR
    # Genes without an r, and those that are seen in few spots, come last.
    ranked = table[f"depth_adjusted_r_{MODEL}"].where(seen, -np.inf).fillna(-np.inf)
    return ranked.sort_values(ascending=False, kind="stable").index[:_MAPPED_GENES].tolist()


def check_map_genes(study: SpotStudy) -> None:
    """Check that the panel has all genes whose maps the config asks for."""
    missing = [gene for gene in study.config.map_genes if gene not in set(study.panel.genes)]
    if missing:
        raise InputError(
            f"map_genes names {preview(missing)}, which the panel does not hold",
            fix="remove these genes from map_genes",
        )
