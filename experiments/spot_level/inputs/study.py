"""One fold of a spot-level study: its sections with their targets, read once and used throughout."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import get_args

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from tcgn_mil.baselines import colour_statistics
from tcgn_mil.batches.spots import Patches, SectionRows, load_patches
from tcgn_mil.experiments.spot_level.config import SpotConfig
from tcgn_mil.experiments.spot_level.inputs.folds import BLOCK, SectionSplit
from tcgn_mil.experiments.spot_level.inputs.sections import (
    SpotSection,
    load_section,
    one_patch_size,
    set_aside_block,
)
from tcgn_mil.experiments.spot_level.inputs.targets import (
    SpotTargets,
    section_targets,
    stack_targets,
    usable_panel,
    without_empty_spots,
)
from tcgn_mil.io.gene_list import read_gene_list
from tcgn_mil.io.spot_files import find_sections
from tcgn_mil.targets.spots import Normalisation, choose_spot_panel, training_targets
from tcgn_mil.types.genes import GenePanel, TargetScaler
from tcgn_mil.types.tile_geometry import PatchSize


@dataclass(frozen=True)
class SpotStudy:
    """A fold's sections, genes and targets.

    Attributes
    ----------
    config, split
        The run, and which sections play which part.
    train, val
        Names in `sections` of what the network trains on and what chooses its epoch; none chooses with
        ``validation=join``.
    sections
        Name -> section; where a block is set aside for validation, the two parts of its section too.
    panel, missing
        Genes, and the table of those that a section did not measure.
    targets
        Name -> normalised expression, in ``config.normalisation``.
    scaler
        Fitted on the training sections.
    """

    config: SpotConfig
    split: SectionSplit
    train: tuple[str, ...]
    val: tuple[str, ...]
    sections: Mapping[str, SpotSection]
    panel: GenePanel
    missing: pd.DataFrame
    targets: Mapping[str, SpotTargets]
    scaler: TargetScaler

    @property
    def patch(self) -> PatchSize:
        """Physical size of the patches."""
        return self.sections[self.train[0]].patch

    def stacked(self, names: Sequence[str]) -> SpotTargets:
        """Targets of several sections, one below the other; detection over all their spots."""
        return stack_targets([self.targets[name] for name in names])

    def training_values(self, names: Sequence[str]) -> NDArray[np.float32]:
        """(S, G) what the network is trained on, in the order of :meth:`stacked`."""
        target = self.config.target
        return training_targets(
            [(self.targets[name].expression, self.targets[name].log_depth) for name in names],
            self.scaler,
            remove_depth=target.remove_depth,
            rank=target.rank,
        )

    def patches(self, names: Sequence[str]) -> Patches:
        """(S, px, px, 3) patches of several sections in the order of :meth:`stacked`, on disk where they are many."""
        return load_patches(
            [SectionRows(self.sections[n].spots.patches_path, self.sections[n].rows) for n in names]
        )

    def colour(self, names: Sequence[str]) -> NDArray[np.float32]:
        """(S, 30) colour statistics of several sections in the order of :meth:`stacked`, one section at a time."""
        return np.concatenate([colour_statistics(self.sections[name].patches()) for name in names])

    def other_normalisation(
        self, names: Sequence[str]
    ) -> tuple[Normalisation, Mapping[str, SpotTargets]]:
        """The normalisation that was not chosen, and targets of sections in it.

        Spots that have no value in it are NaN.
        """
        (other,) = (name for name in get_args(Normalisation) if name != self.config.normalisation)
        return other, {
            name: section_targets(self.sections[name], self.panel, other, allow_empty=True)
            for name in names
        }


def load_sections(config: SpotConfig) -> dict[str, SpotSection]:
    """All sections of the folder of spots, without their poor spots, of one patch size."""
    sections = {
        name: load_section(path, config.min_umi)
        for name, path in find_sections(config.spots).items()
    }
    one_patch_size(sections)
    return sections


def patients_of(sections: Mapping[str, SpotSection]) -> dict[str, str]:
    """Section -> patient."""
    return {name: section.spots.patient for name, section in sections.items()}


def make_study(
    config: SpotConfig, split: SectionSplit, sections: Mapping[str, SpotSection]
) -> SpotStudy:
    """Choose genes and fit the target scaler on the training sections of a fold."""
    used = {name: sections[name] for name in dict.fromkeys((*split.train, *split.val, *split.test))}
    if config.panel.file is not None:
        panel = read_gene_list(config.panel.file)
    else:
        training = [(used[name].genes, used[name].counts()) for name in split.train]
        panel = choose_spot_panel(
            training, min_detection=config.panel.min_detection, max_genes=config.panel.max_genes
        )
    panel, missing = usable_panel(panel, used, config.panel.missing)
    if config.normalisation == "published":
        used = {name: without_empty_spots(section, panel) for name, section in used.items()}
    train, val = split.train, split.val
    if config.validation == "join":
        train, val = split.known, ()
    elif split.validation == BLOCK:
        (name,) = split.train
        train, val = (f"{name} (training part)",), (f"{name} (validation block)",)
        used[train[0]], used[val[0]] = set_aside_block(used[name], used[name].patch.um)
    targets = {
        name: section_targets(section, panel, config.normalisation)
        for name, section in used.items()
    }
    values = np.concatenate([targets[name].expression for name in train])
    return SpotStudy(
        config, split, train, val, used, panel, missing, targets, _scaler(values, config)
    )


def _scaler(values: NDArray[np.float32], config: SpotConfig) -> TargetScaler:
    scope = "panel" if config.normalisation == "published" else "all genes"
    scaler = TargetScaler.fit(values, transform=f"log1p(counts per 1e4 of {scope})")
    if config.target.standardise:
        return scaler
    plain = np.zeros_like(scaler.mean)
    return TargetScaler(scaler.transform, plain, plain + 1)
