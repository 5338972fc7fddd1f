"""Use what an encoder learnt from spots for bulk genes: its head, and zero-shot scores.

The scores of the head are standardised over spots and are not abundances, and the score of a slide
is the mean over its tiles. They are therefore judged by the correlation over patients alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from tcgn_mil.checkpoints import load_encoder
from tcgn_mil.checkpoints.published import find_checkpoint
from tcgn_mil.errors import InputError
from tcgn_mil.experiments.slide_level.inputs.cohort import CohortData
from tcgn_mil.inference.tile_encoder import open_encoder
from tcgn_mil.io.feature_files import read_features
from tcgn_mil.models.heads import SpotHead, SpotHidden, head_of, last_layer
from tcgn_mil.models.tcgn import ExpressionHead
from tcgn_mil.progress import Progress
from tcgn_mil.settings.encoder import EncoderOptions
from tcgn_mil.types.genes import GenePanel, canonical_gene, matching_columns

_TILES_AT_ONCE = 8192


@dataclass(frozen=True)
class SpotInitialisation:
    """The head of an encoder that was trained on spots, and its input for each patient.

    Attributes
    ----------
    panel
        Genes of the spots.
    head
        Head for these genes.
    patient_inputs
        (M, S) float32 input of the head's last layer, averaged over the tiles of each patient of
        the cohort.
    """

    panel: GenePanel
    head: SpotHead
    patient_inputs: NDArray[np.float32]

    @property
    def hidden(self) -> int:
        """Width of the hidden layer of the head; 0 if it has none."""
        return 0 if self.head.hidden is None else len(self.head.hidden.bias)

    def head_for(self, panel: GenePanel) -> SpotHead:
        """Return the head for a bulk panel; genes that the spots did not have start from zero."""
        rows, shared = _shared_genes(panel, self.panel)
        weight = torch.zeros(len(panel), self.head.weight.shape[1])
        weight[shared] = self.head.weight[rows]
        return self.head._replace(weight=weight)

    def scaled_for(
        self,
        panel: GenePanel,
        train: Sequence[int] | NDArray[np.int64],
        scaled: NDArray[np.float32],
    ) -> tuple[SpotHead, torch.Tensor]:
        """Return the head and its centre (S,) for the start of training on bulk.

        Spot scores vary over tiles more, or less, than bulk targets vary over patients. The weights
        are therefore multiplied by one factor for all genes, that of least squares between the
        zero-shot scores z and the targets t of the training patients::

            factor = max(0, sum(z t) / sum(z z))

        One positive factor leaves the correlation of each gene as it was.

        Parameters
        ----------
        panel
            The G bulk genes.
        train
            Rows of the training patients.
        scaled
            (M, G) standardised bulk targets.
        """
        head = self.head_for(panel)
        centre = self.patient_inputs[train].mean(axis=0)
        zero_shot = (self.patient_inputs[train] - centre) @ head.weight.numpy().T
        truth = np.nan_to_num(scaled[train])
        factor = float((zero_shot * truth).sum() / max(np.square(zero_shot).sum(), 1e-12))
        return head._replace(weight=head.weight * max(factor, 0.0)), torch.from_numpy(centre)

    def zero_shot(self, panel: GenePanel) -> NDArray[np.float32]:
        """Return (M, G) mean spot scores over tiles; NaN for genes that the spots did not have."""
        rows, shared = _shared_genes(panel, self.panel)
        scores = np.full((len(self.patient_inputs), len(panel)), np.nan, dtype=np.float32)
        scores[:, shared] = self.patient_inputs @ self.head.weight[rows].numpy().T
        return scores


def _shared_genes(panel: GenePanel, spots: GenePanel) -> tuple[list[int], NDArray[np.bool_]]:
    """Return the rows of the shared genes among the spots' genes, and a mask over `panel`."""
    rows = matching_columns(panel.genes, spots.genes)
    shared = np.array([row is not None for row in rows])
    return [row for row in rows if row is not None], shared


def load_spot_initialisation(
    path: str, options: EncoderOptions, data: CohortData
) -> SpotInitialisation | None:
    """Read the head of an encoder, and pass the tiles of all patients through it.

    Parameters
    ----------
    path
        The encoder, in any form that ``tcgn-mil encode`` takes.
    options
        How it is built, pooled, and given its weights.
    data
        The cohort.

    Returns
    -------
    SpotInitialisation or None
        None if the encoder has no head for genes, because it was not trained on spots.

    Raises
    ------
    InputError
        If the encoder is not the one that made the features, if its head is not one of this
        project, or if it shares no gene with the cohort.
    """
    identity = open_encoder(path, **options.as_arguments()).identity
    if identity != data.encoder:
        raise InputError(
            f"is {identity}, but the features were made by {data.encoder}",
            path=path,
            fix="give --encoder the one that made the features, or encode the slides with this one",
        )
    own = find_checkpoint(path)
    if own is None:
        return None
    model, info = load_encoder(own)
    if info.panel is None:
        return None
    if not {*map(canonical_gene, info.panel.genes)} & {*map(canonical_gene, data.genes)}:
        raise InputError(
            f"shares no gene with the cohort; it has for example {info.panel.genes[0]}, and the"
            f" cohort {data.genes[0]}",
            path=path,
            fix="name the genes of both in the same way, for example by HGNC symbols",
        )
    head, last = head_of(model), last_layer(model)
    hidden = None
    if isinstance(head, ExpressionHead):
        hidden = SpotHidden(head.fc1.weight.detach(), head.fc1.bias.detach())
    elif head is not last:
        raise InputError(
            f"the head of {info.model} is not linear, so that it cannot be used on bulk",
            path=path,
            fix="set model.form=pooled, and give no --encoder",
        )
    spot_head = SpotHead(last.weight.detach(), hidden)
    inputs = _patient_inputs(spot_head, data.patients, data.slides)
    return SpotInitialisation(info.panel, spot_head, inputs)


def _patient_inputs(
    head: SpotHead, patients: Sequence[str], slides: Mapping[str, Sequence[Path]]
) -> NDArray[np.float32]:
    """Return (M, S) means over the tiles of each patient, so that larger slides weigh more."""
    rows = []
    for patient in Progress(patients, desc="spot head", unit="patient"):
        total, tiles = torch.zeros(head.weight.shape[1], dtype=torch.float64), 0
        for path in slides[patient]:
            for chunk in torch.from_numpy(read_features(path)[0]).split(_TILES_AT_ONCE):
                total += head.last_input(chunk).sum(dim=0, dtype=torch.float64)
                tiles += len(chunk)
        rows.append((total / max(tiles, 1)).float().numpy())
    return np.stack(rows)
