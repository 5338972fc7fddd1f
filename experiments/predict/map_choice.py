"""What ``tcgn-mil predict`` draws on its maps: genes and gene sets."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from tcgn_mil.errors import InputError
from tcgn_mil.experiments.predict.config import PredictConfig
from tcgn_mil.experiments.predict.maps import check_names
from tcgn_mil.inference.fold_models import FoldModel
from tcgn_mil.io.result_tables import read_gene_table
from tcgn_mil.signatures.gene_sets import CoveredSets, covered_sets, read_gmt
from tcgn_mil.types.tiles import GenePanel

_DEFAULT_MAPS = 4


def mapped_genes(config: PredictConfig, panel: GenePanel) -> tuple[str, ...]:
    """Genes to draw: those asked for, else the best of the cross-validation.

    Raises
    ------
    InputError
        If the model lacks a gene asked for.
    """
    if config.thumbnails is not None and not Path(config.thumbnails).is_dir():
        raise InputError(
            "no such folder of thumbnails",
            path=config.thumbnails,
            fix="give the folder of tcgn-mil tile",
        )
    if config.map_genes:
        GenePanel(config.map_genes).index_in(panel.genes, path=config.model)
    if not config.maps or config.map_genes:
        return config.map_genes if config.maps else ()
    table = read_gene_table(Path(config.model) / "genes.csv")
    score = table["r_model"] if table["r_model"].notna().any() else table["pooled_r_model"]
    return tuple(score.sort_values(ascending=False, kind="stable").index[:_DEFAULT_MAPS])


def mapped_signatures(
    config: PredictConfig, mapped: Sequence[str], models: Sequence[FoldModel]
) -> CoveredSets:
    """Gene sets to draw, and those of which a model has less than half.

    Raises
    ------
    InputError
        If the file is no GMT file, or no set can be drawn.
    """
    if config.map_signatures is None or not config.maps:
        return CoveredSets((), {})
    found = covered_sets(
        read_gmt(config.map_signatures).values(), [fold.info.panel for fold in models]
    )
    if not found.kept:
        name, reason = next(iter(found.left_out.items()))
        raise InputError(
            f"no gene set can be drawn; of {name}, {reason}",
            path=config.map_signatures,
            fix="give sets of which the models predict at least half the genes, named as in genes.csv",
        )
    check_names(tuple(mapped), tuple(one.name for one in found.kept), path=config.map_signatures)
    return found
