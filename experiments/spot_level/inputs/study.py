"""Hold one fold of a spot-level run: its sections, genes and targets, read once."""

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
    """Sections, genes and targets of one fold.

    Attributes
    ----------
    config
        Config of the run.
    split
        Part that each section plays in the fold.
    train, val
        Names in `sections` of what the network trains on and of what chooses its epoch. With
        ``validation=join`` nothing chooses, and `val` is empty.
    sections
        Sections by name. Where a block is set aside for validation, both parts of the section are
        there too, under names of their own.
    panel
        Genes to predict.
    missing
        Table of the panel genes that a section did not measure.
    targets
        Normalised expression by section, in ``config.normalisation``.
    scaler
        Standardisation of the targets, fitted on the training sections.
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
        """Return the targets of several sections, one below the other."""
        return stack_targets([self.targets[name] for name in names])

    def training_values(self, names: Sequence[str]) -> NDArray[np.float32]:
        """Return what the network is trained on (S, G), in the order of :meth:`stacked`."""
        target = self.config.target
        return training_targets(
            [(self.targets[name].expression, self.targets[name].log_depth) for name in names],
            self.scaler,
            remove_depth=target.remove_depth,
            rank=target.rank,
        )

    def patches(self, names: Sequence[str]) -> Patches:
        """Return the patches (S, px, px, 3) of several sections in the order of :meth:`stacked`.

        They stay on disk where there are too many for memory.
        """
        return load_patches(
            [SectionRows(self.sections[n].spots.patches_path, self.sections[n].rows) for n in names]
        )

    def colour(self, names: Sequence[str]) -> NDArray[np.float32]:
        """Return colour statistics (S, 30) of several sections in the order of :meth:`stacked`."""
        return np.concatenate([colour_statistics(self.sections[name].patches()) for name in names])

    def other_normalisation(
        self, names: Sequence[str]
    ) -> tuple[Normalisation, Mapping[str, SpotTargets]]:
        """Return the normalisation that the config did not choose, and targets in it.

        Spots that have no value in it are NaN.
        """
        (other,) = (name for name in get_args(Normalisation) if name != self.config.normalisation)
        return other, {
            name: section_targets(self.sections[name], self.panel, other, allow_empty=True)
            for name in names
        }


def load_sections(config: SpotConfig) -> dict[str, SpotSection]:
    """Read all sections of the folder of spots, without the spots that have too few counts.

    Raises
    ------
    InputError
        If a section cannot be used, or if patch sizes differ.
    """
    sections = {
        name: load_section(path, config.min_umi)
        for name, path in find_sections(config.spots).items()
    }
    one_patch_size(sections)
    return sections


def patients_of(sections: Mapping[str, SpotSection]) -> dict[str, str]:
    """Return the patient of each section."""
    return {name: section.spots.patient for name, section in sections.items()}


def make_study(
    config: SpotConfig, split: SectionSplit, sections: Mapping[str, SpotSection]
) -> SpotStudy:
    """Choose the genes of a fold and fit the target scaler, both on its training sections."""
    used = {name: sections[name] for name in dict.fromkeys((*split.train, *split.val, *split.test))}
    if config.panel.file is not None:
        panel = read_gene_list(config.panel.file)
    else:
        # Neither validation nor test sections take part in the choice.
        training = [(used[name].genes, used[name].counts()) for name in split.train]
        panel = choose_spot_panel(
            training, min_detection=config.panel.min_detection, max_genes=config.panel.max_genes
        )
    panel, missing = usable_panel(panel, used, config.panel.missing)
    # Only after the panel is final is it known which spots have no count of any of its genes.
    if config.normalisation == "published":
        used = {name: without_empty_spots(section, panel) for name, section in used.items()}
    train, val = split.train, split.val
    if config.validation == "join":
        train, val = split.train_and_val, ()
    elif split.validation == BLOCK:
        (name,) = split.train
        train, val = (f"{name} (training part)",), (f"{name} (validation block)",)
        used[train[0]], used[val[0]] = set_aside_block(used[name], used[name].patch.um)
    targets = {
        name: section_targets(section, panel, config.normalisation)
        for name, section in used.items()
    }
    # Everything that is fitted comes from training spots (docs/protocol.md, section Targets).
    values = np.concatenate([targets[name].expression for name in train])
    return SpotStudy(
        config, split, train, val, used, panel, missing, targets, _scaler(values, config)
    )


def _scaler(values: NDArray[np.float32], config: SpotConfig) -> TargetScaler:
    """Fit the target scaler; without standardisation it changes nothing but states the unit."""
    scope = "panel" if config.normalisation == "published" else "all genes"
    scaler = TargetScaler.fit(values, transform=f"log1p(counts per 1e4 of {scope})")
    if config.target.standardise:
        return scaler
    plain = np.zeros_like(scaler.mean)
    return TargetScaler(scaler.transform, plain, plain + 1)
