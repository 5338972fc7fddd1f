"""Describe the network of a spot-level run, and make it before training."""

from __future__ import annotations

from dataclasses import dataclass, field

from tcgn_mil.checkpoints import check_genes
from tcgn_mil.checkpoints.starting import check_started, start_from
from tcgn_mil.errors import InputError
from tcgn_mil.experiments.spot_level.config import SMALL_NETWORK, SMALL_NETWORK_PX, SpotConfig
from tcgn_mil.experiments.spot_level.inputs.study import SpotStudy
from tcgn_mil.models import TCGN, load_trunk
from tcgn_mil.models.encoders import StartedEncoder
from tcgn_mil.progress import tell
from tcgn_mil.settings.encoder import EncoderOptions


@dataclass(frozen=True)
class Network:
    """Architecture and initialisation of a network; attributes are keys of :class:`SpotConfig`."""

    model: str
    input_px: int | None = None
    train: str = "all"
    checkpoint: str | None = None
    trunk: str | None = None
    options: EncoderOptions = field(default_factory=EncoderOptions)

    @classmethod
    def of(cls, config: SpotConfig) -> Network:
        """Return the network that a run is about."""
        return cls(
            config.model,
            config.input_px,
            config.train,
            config.checkpoint,
            config.trunk,
            config.encoder_options,
        )

    @classmethod
    def small(cls) -> Network:
        """Return the small network of docs/protocol.md, section Baselines, randomly initialised."""
        return cls(SMALL_NETWORK, SMALL_NETWORK_PX, options=EncoderOptions(untrained=True))


def start_network(network: Network, study: SpotStudy) -> StartedEncoder:
    """Return the network before training.

    Raises
    ------
    InputError
        If keys contradict one another, or if weights do not fit the network or the genes.
    """
    if network.trunk is not None and network.checkpoint is not None:
        raise InputError(
            "both trunk and checkpoint are set, but a network starts from one of them",
            fix="remove one of the two keys",
        )
    if network.train == "head" and study.config.training.layer_decay < 1:
        raise InputError(
            "training.layer_decay is below 1, but train=head trains no layers below the head",
            fix="set train=all, or remove training.layer_decay",
        )
    # The last layer of a checkpoint has one output for each gene of its own panel, in its order.
    if network.checkpoint is not None:
        check_genes(network.checkpoint, study.panel)
    started = start_from(
        network.model,
        study.panel,
        checkpoint=network.checkpoint,
        input_px=network.input_px,
        trains=network.train == "all",
        **network.options.as_arguments(),
    )
    check_started(started, study.patch, allow=study.config.allow_other_size)
    if network.trunk is not None:
        if not isinstance(started.model, TCGN):
            raise InputError(
                f"config key trunk is for TCGN, not for {network.model}",
                fix="give the weights of a timm model as checkpoint",
            )
        filled = load_trunk(started.model, network.trunk).filled
        count = len(started.model.state_dict())
        tell(f"{len(filled)} of {count} tensors filled from {network.trunk}")
    return started
