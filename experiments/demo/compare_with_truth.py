"""Write the demo's own run: what was predicted beside what was planted, by kind of gene."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from pydantic import Field

from tcgn_mil.config import config_class
from tcgn_mil.experiments.demo.planted_truth import (
    FOLLOWERS,
    NULL,
    by_kind_and_followers,
    planted_genes,
    r_columns,
    tile_auc,
    with_kind,
)
from tcgn_mil.experiments.demo.recipe import Recipe
from tcgn_mil.experiments.demo.steps import Steps
from tcgn_mil.experiments.demo.truth_figure import (
    Comparison,
    draw_truth,
    slide_with_most_to_see,
)
from tcgn_mil.experiments.runs import figures
from tcgn_mil.experiments.runs.run_folder import begin_run, finish_run
from tcgn_mil.io.atomic import write_csv

KIND = "demo"
BANNER = (
    "SYNTHETIC DATA. Slides and expression are simulated; nothing here says anything about"
    " patients."
)
FIGURE = "truth_beside_prediction.png"
IMMUNE_GENE, SUBTYPE_GENE = "SYN_IMMUNE_01", "SYN_TUMORA_01"
_COMPARISONS = [
    Comparison(("immune",), (), "immune aggregates", IMMUNE_GENE),
    Comparison(("tumour_a",), ("tumour_b",), "tumour subtype a minus b", SUBTYPE_GENE),
]


@config_class
class TruthConfig:
    """The predictions that are compared, and the cohort whose truth is known."""

    cohort: str = Field("cohort", description="Folder of the synthetic cohort.")
    run: str = Field("slide-model", description="Folder of the slide models.")
    maps: str = Field("predictions/maps", description="Maps of the predicted slides.")


def compare_with_truth(recipe: Recipe, steps: Steps) -> dict[str, Any]:
    """Compare the slide models of a demo with the truth, and write the tables and figures.

    Parameters
    ----------
    recipe
        The demo.
    steps
        Its steps so far, whose commands and times the report shows.

    Returns
    -------
    dict
        Summary, as in ``summary.json``.
    """
    config = TruthConfig(
        str(recipe.cohort.root),
        str(recipe.out / "slide-model"),
        str(recipe.out / "predictions" / "maps"),
    )
    out = begin_run(recipe.out / "planted-truth", KIND, config)
    run, truth, maps = Path(config.run), recipe.cohort.truth, Path(config.maps)
    kinds = by_kind_and_followers(run, truth)
    write_csv(out / "by_kind.csv", kinds)
    _draw_kinds(with_kind(run, truth), out / "by_kind.png")
    tiles = tile_auc(maps, recipe.cohort.root)
    write_csv(out / "tile_auc.csv", tiles)
    drawn = sorted(path.stem for path in maps.glob("*.h5ad"))
    slide = slide_with_most_to_see(truth, drawn)
    draw_truth(
        maps / f"{slide}.h5ad",
        recipe.cohort.root,
        recipe.out / "tiles" / f"{slide}_thumbnail.jpg",
        _COMPARISONS,
        out / FIGURE,
    )
    # Decimals of a second would differ from run to run and tell nothing.
    write_csv(out / "steps.csv", steps.table().round({"seconds": 0}).astype({"seconds": int}))
    genes = planted_genes(truth)
    return finish_run(
        out,
        {
            "banner": BANNER,
            "patients": len(pd.read_csv(recipe.cohort.clinical)),
            "genes": len(genes),
            "null_genes": int((genes["kind"] == NULL).sum()),
            "slide": slide,
            "tile_auc": {
                "gene": IMMUNE_GENE,
                "median": float(tiles[IMMUNE_GENE].median()) if len(tiles) else None,
                "slides": len(tiles),
            },
            "median_r": _by_predictor(kinds),
            "seconds": float(steps.table()["seconds"].sum()),
        },
    )


def _by_predictor(kinds: pd.DataFrame) -> dict[str, dict[str, float]]:
    """Return the median r of each predictor that has one, by kind of gene."""
    columns = r_columns(kinds)
    prefix = columns[0].removesuffix("model")
    return {
        str(row["kind"]): {
            column.removeprefix(prefix): float(row[column])
            for column in columns
            if np.isfinite(row[column])
        }
        for _, row in kinds.iterrows()
    }


def _draw_kinds(table: pd.DataFrame, path: Path) -> None:
    """Draw the model beside the ridge baselines, one cluster of points for each kind of gene."""
    columns = r_columns(table)
    prefix = columns[0].removesuffix("model")
    names = {
        "model": f"{prefix}model",
        "ridge on colour": f"{prefix}ridge_colour",
        "ridge on mean features": f"{prefix}ridge_mean_features",
    }
    groups = {
        str(kind): {
            label: rows[column].to_numpy(float) for label, column in names.items() if column in rows
        }
        for kind, rows in table.groupby("kind", observed=True)
    }
    ylabel = "r within test folds, combined" if prefix == "r_" else "r pooled over folds (biased)"
    figures.grouped_points(groups, path, ylabel=ylabel)


__all__ = ["FIGURE", "FOLLOWERS", "KIND", "TruthConfig", "compare_with_truth"]
