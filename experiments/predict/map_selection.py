"""Choose the genes and gene sets that ``tcgn-mil predict`` draws on its maps."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

from tcgn_mil.errors import InputError
from tcgn_mil.experiments.predict.config import PredictConfig
from tcgn_mil.experiments.predict.maps import check_set_names
from tcgn_mil.experiments.predict.model import OpenedModel
from tcgn_mil.inference.fold_models import FoldModel
from tcgn_mil.models.component_regression import ComponentRegression
from tcgn_mil.signatures.gene_sets import read_gene_sets
from tcgn_mil.signatures.set_weights import CoveredSets, covered_sets
from tcgn_mil.signatures.tissue_markers import marker_genes
from tcgn_mil.types.genes import GenePanel

_DEFAULT_GENES = 4


def has_tile_scores(models: Sequence[FoldModel]) -> bool:
    """Return whether tiles can be scored, which a regression on mean features cannot do."""
    return not any(isinstance(fold.model, ComponentRegression) for fold in models)


def without_maps(config: PredictConfig) -> PredictConfig:
    """Turn off maps for models without tile scores.

    Raises
    ------
    InputError
        If maps of a gene or of gene sets were asked for.
    """
    if config.maps and (config.map_genes or config.map_signatures):
        raise InputError(
            "the model is a regression on the mean features of a patient and has no scores of"
            " tiles, so no map can be drawn",
            path=config.model,
            fix="remove the options for maps, or train with --kind attention",
        )
    return dataclasses.replace(config, maps=False)


def genes_to_draw(config: PredictConfig, model: OpenedModel) -> tuple[str, ...]:
    """Return the genes to draw: those asked for, or markers of tissue and immunity.

    Where the panel has fewer than four markers, the genes that were predicted best in
    cross-validation fill the rest.

    Parameters
    ----------
    config
        Config of the run.
    model
        The slide model.

    Raises
    ------
    InputError
        If the models do not predict a gene asked for, or the folder of thumbnails does not exist.
    """
    if config.thumbnails is not None and not Path(config.thumbnails).is_dir():
        raise InputError(
            "no such folder of thumbnails",
            path=config.thumbnails,
            fix="give --thumbnails the folder that tcgn-mil tile wrote",
        )
    # The names are checked even if no maps are drawn, so that a typing error is always reported.
    if config.map_genes:
        GenePanel(config.map_genes).index_in(model.panel.genes, path=config.model)
    if not config.maps or config.map_genes:
        return config.map_genes if config.maps else ()
    table = model.genes
    # In small cohorts no gene has an r within folds, so the pooled r is used.
    score = table["r_model"] if table["r_model"].notna().any() else table["pooled_r_model"]
    known = {str(gene): float(r) for gene, r in score.items()}
    markers = marker_genes(model.panel.genes, known, most=_DEFAULT_GENES)
    best = score.dropna().sort_values(ascending=False, kind="stable").index
    # Genes without an r come last, in the order of the panel.
    names = dict.fromkeys([*markers, *best, *model.panel.genes])
    return tuple(names)[:_DEFAULT_GENES]


def gene_sets_to_draw(
    config: PredictConfig, genes: Sequence[str], models: Sequence[FoldModel]
) -> CoveredSets:
    """Return the gene sets to draw, and those of which a model predicts less than half.

    Parameters
    ----------
    config
        Config of the run, which names the GMT file.
    genes
        Genes that are drawn.
    models
        Models of the run.

    Raises
    ------
    InputError
        If the file is not a GMT file, if no set can be drawn, or if a set has the
        same name as a gene or another map that is drawn.
    """
    if config.map_signatures is None or not config.maps:
        return CoveredSets((), {})
    covered = covered_sets(
        read_gene_sets(config.map_signatures).values(), [fold.info.panel for fold in models]
    )
    if not covered.kept:
        name, reason = next(iter(covered.left_out.items()))
        raise InputError(
            f"no gene set can be drawn; of {name}, {reason}",
            path=config.map_signatures,
            fix="give sets of which the models predict at least half the genes, named as in"
            " the table of genes of the model",
        )
    names = tuple(gene_set.name for gene_set in covered.kept)
    check_set_names(tuple(genes), names, path=config.map_signatures)
    return covered
