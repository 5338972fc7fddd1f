"""What describes a spot-level run: one config for ``tcgn-mil pretrain`` and ``tcgn-mil spot-cv``, and its presets."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Literal

from tcgn_mil.batches.augment import AugmentConfig
from tcgn_mil.errors import InputError
from tcgn_mil.targets.spots import Normalisation
from tcgn_mil.training.loop import TrainingConfig

SMALL_NETWORK = "resnet10t"  # PROTOCOL, Baselines
SMALL_NETWORK_PX = 128
VIEWS = (1, 4, 8)


@dataclass(frozen=True)
class PanelConfig:
    """Genes to predict: a file with one a line, or the most variable of those seen often enough in training.

    Attributes
    ----------
    file
        Gene list, in the order of the output.
    min_detection
        Least share of training spots with a count, 0 to 1.
    max_genes
        At most so many, the most variable by scanpy's measure (its flavour ``seurat``, ranked within sections).
    missing
        What is done about a gene of `file` that a section did not measure: ``error``; ``zero``: no counts in that
        section; ``drop``: the gene is left out of the run. The last two are listed in ``missing_genes.csv``.
    """

    file: str | None = None
    min_detection: float = 0.1
    max_genes: int = 1000
    missing: Literal["error", "zero", "drop"] = "error"

    def __post_init__(self) -> None:
        if not 0 <= self.min_detection <= 1:
            raise InputError(
                f"panel.min_detection is {self.min_detection}", fix="give a share of spots, 0 to 1"
            )
        if self.max_genes < 1:
            raise InputError(f"panel.max_genes is {self.max_genes}", fix="give at least 1")


@dataclass(frozen=True)
class TargetConfig:
    """What the network is trained on; results are always judged against normalised expression (PROTOCOL, Targets).

    Attributes
    ----------
    remove_depth
        Take the cubic spline of log total count out of each training section's values, so that the network learns
        what is beyond depth; a prediction is then that of a spot of average depth.
    rank
        Replace the training values by their projection on so many principal components, 0 for none: what genes share
        is far better measured than any of them.
    standardise
        Each gene to mean 0 and variance 1 (over a section's spots where depth is removed), so that all weigh the same.
    """

    remove_depth: bool = False
    rank: int = 0
    standardise: bool = True

    def __post_init__(self) -> None:
        if self.rank < 0:
            raise InputError(
                f"target.rank is {self.rank}", fix="give 0 (all of the values) or more"
            )
        if (self.remove_depth or self.rank) and not self.standardise:
            raise InputError(
                "target.standardise=false goes with neither remove_depth nor rank",
                fix="leave it true",
            )


@dataclass(frozen=True)
class SpotConfig:
    """Everything that decides the result of a run.

    Attributes
    ----------
    spots
        Folder of ``tcgn-mil spots``.
    protocol
        For ``spot-cv``: ``own``, or ``hest`` for the recipe of HEST-Bench (see
        :mod:`tcgn_mil.experiments.spot_level.hest_protocol`).
    preset
        Set by ``--preset``, whose values stand above those of a config file; results carry its name.
    val_sections, test_sections
        For ``pretrain``: section ids; all others train. Validation is chosen where it is not given.
    group_by
        For ``spot-cv``: what is tested together, all sections of a patient, or one section, whose patient then also
        trains; that result is labelled ``patient leakage``.
    n_folds
        For ``spot-cv``: 0 leaves each patient (or section) out once; else so many folds of whole patients.
    folds
        For ``spot-cv``: a CSV with fold, part, id instead; an id is a section, or a patient for all of its sections.
    validation
        ``select``: the validation part chooses the epoch. ``join``: it trains as well, for all epochs, and nothing is
        selected; for settings that were chosen before.
    select_on_test
        The epoch is chosen on the test part, as in the TCGN paper; the result is labelled so.
    model
        ``tcgn_ti``, ``tcgn_xs``, ``tcgn_tiny``, or the name of any timm model.
    pretrained
        Download the weights of a timm model.
    checkpoint
        Weights to start from: of TCGN for the same genes, published or own layout; of a timm model, its own.
    trunk
        CMT ImageNet weights to start TCGN's trunk from, instead of `checkpoint`.
    train
        ``all``: end to end; ``head``: a linear layer on the frozen encoder; ``none``: ridge on its frozen features.
    input_px
        Side the patches are brought to, in pixels; null for the model's own.
    views
        Of each test spot, so many of the square's symmetries are averaged: 1, 4 (rotations) or 8.
    members
        Networks trained from successive seeds, whose predictions are averaged; ``pretrain`` takes 1.
    baselines
        For ``spot-cv``: also train the small network of PROTOCOL by the same recipe, and fit ridge on the untrained
        network's features.
    normalisation
        ``library``: counts scaled to 1e4 over all genes; ``published``: over the panel, as the TCGN paper did.
    min_umi
        Spots with fewer counts are dropped and listed.
    map_genes
        Genes whose maps are drawn; empty: the best predicted.
    """

    spots: str = "spots"
    protocol: Literal["own", "hest"] = "own"
    preset: Literal["published"] | None = None
    val_sections: tuple[str, ...] = ()
    test_sections: tuple[str, ...] = ()
    group_by: Literal["patient", "section"] = "patient"
    n_folds: int = 0
    folds: str | None = None
    validation: Literal["select", "join"] = "select"
    select_on_test: bool = False
    model: str = "tcgn_ti"
    pretrained: bool = False
    checkpoint: str | None = None
    trunk: str | None = None
    train: Literal["all", "head", "none"] = "all"
    input_px: int | None = None
    views: int = 4
    members: int = 1
    baselines: bool = True
    normalisation: Normalisation = "library"
    min_umi: int = 100
    map_genes: tuple[str, ...] = ()
    panel: PanelConfig = field(default_factory=PanelConfig)
    target: TargetConfig = field(default_factory=TargetConfig)
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    training: TrainingConfig = field(
        default_factory=lambda: TrainingConfig(epochs=30, batch_size=32, lr=1e-3, loss="mix")
    )

    def __post_init__(self) -> None:
        if self.views not in VIEWS:
            raise InputError(f"views is {self.views}", fix="give 1, 4 or 8")
        if self.members < 1:
            raise InputError(f"members is {self.members}", fix="give at least 1")
        if self.select_on_test and self.validation == "join":
            raise InputError(
                "select_on_test goes with validation=select", fix="drop one of the two"
            )
        if self.n_folds < 0 or self.n_folds == 1:
            raise InputError(
                f"n_folds is {self.n_folds}", fix="give 0 (leave each out once), or 2 or more"
            )


PUBLISHED_EPOCHS = 79
# The protocol of the TCGN paper (Xiao et al. 2024): leave one section out, the epoch chosen on it, targets normalised
# over the panel and not standardised, Adam at a constant rate of 1e-5.
_PUBLISHED: Mapping[str, Any] = MappingProxyType(
    {
        "preset": "published",
        "group_by": "section",
        "select_on_test": True,
        "model": "tcgn_ti",
        "normalisation": "published",
        "target": {"remove_depth": False, "rank": 0, "standardise": False},
        "views": 1,
        "members": 1,
        "augment": {"flips": True, "stain": 0.0, "blur": 0.0},
        "training": {
            "epochs": PUBLISHED_EPOCHS,
            "batch_size": 32,
            "lr": 1e-5,
            "weight_decay": 0.0,
            "warmup_fraction": 0.0,
            "optimizer": "adam",
            "schedule": "constant",
            "average": 0.0,
            "patience": PUBLISHED_EPOCHS,
            "loss": "mse",
            "clip_norm": 1e9,
        },
    }
)
PRESETS: Mapping[str, Mapping[str, Any]] = MappingProxyType({"published": _PUBLISHED})


def preset_values(name: str | None) -> Mapping[str, Any]:
    """What a preset sets, nothing for None.

    Raises
    ------
    InputError
        If there is no such preset.
    """
    if name is None:
        return {}
    if name not in PRESETS:
        raise InputError(f"no preset {name!r}", fix=f"presets are {', '.join(PRESETS)}")
    return {
        key: dict(value) if isinstance(value, Mapping) else value
        for key, value in PRESETS[name].items()
    }
