"""What an encoder's training on spots already knows of bulk genes: the head by gene name, and its zero-shot prediction.

Scores are standardised over spots, not abundances, and a slide's is the mean over its tiles, so they are judged by r
over patients only.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from tqdm import tqdm

from tcgn_mil.checkpoints import load_encoder
from tcgn_mil.errors import InputError
from tcgn_mil.experiments.slide_level.cohort import CohortData
from tcgn_mil.inference.tile_encoder import open_encoder
from tcgn_mil.io.feature_files import read_features
from tcgn_mil.models.heads import SpotHead, SpotHidden, head_of, last_layer
from tcgn_mil.models.tcgn import ExpressionHead
from tcgn_mil.types.genes import GenePanel

_TILES_AT_ONCE = 8192


@dataclass(frozen=True)
class SpotStart:
    """The head of an encoder, and what it says of each patient.

    Attributes
    ----------
    panel
        Genes of the spots.
    head
        For these genes.
    patient_inputs
        (M, S) mean over a patient's tiles of what the head's last layer reads, in the cohort's order.
    """

    panel: GenePanel
    head: SpotHead
    patient_inputs: NDArray[np.float32]

    @property
    def hidden(self) -> int:
        """Width of the head's hidden layer, 0 without."""
        return 0 if self.head.hidden is None else len(self.head.hidden.bias)

    def head_for(self, panel: GenePanel) -> SpotHead:
        """The head for a bulk panel; genes that the spots did not have start from zero."""
        rows, known = _shared(panel, self.panel)
        weight = torch.zeros(len(panel), self.head.weight.shape[1])
        weight[known] = self.head.weight[rows]
        return self.head._replace(weight=weight)

    def scaled_for(
        self,
        panel: GenePanel,
        train: Sequence[int] | NDArray[np.int64],
        scaled: NDArray[np.float32],
    ) -> tuple[SpotHead, torch.Tensor]:
        """The head and its centre (S,) at the start of training on bulk.

        Over tiles, spot scores spread more, or less, than bulk targets over patients: one factor for all genes, that
        of least squares on training patients, brings them together. It leaves every gene's r as it was.

        Parameters
        ----------
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
        """(M, G) spot scores, mean over tiles; NaN for genes that the spots did not have."""
        rows, known = _shared(panel, self.panel)
        found = np.full((len(self.patient_inputs), len(panel)), np.nan, dtype=np.float32)
        found[:, known] = self.patient_inputs @ self.head.weight[rows].numpy().T
        return found


def _shared(panel: GenePanel, spots: GenePanel) -> tuple[list[int], NDArray[np.bool_]]:
    """Rows of the spots' genes that a panel has, and which of its genes these are."""
    row = {gene: index for index, gene in enumerate(spots.genes)}
    known = np.array([gene in row for gene in panel.genes])
    return [row[gene] for gene in panel.genes if gene in row], known


def spot_start(path: str | Path, data: CohortData) -> SpotStart:
    """Read an encoder's head and take all patients' tiles through it.

    Raises
    ------
    InputError
        If the encoder is not the one that made the features, its head is none of ours, or it shares no gene with the
        cohort.
    """
    found = open_encoder(str(path)).identity
    if found != data.encoder:
        raise InputError(
            f"is {found}, the features are those of {data.encoder}",
            path=path,
            fix="give the encoder that made the features, or encode the slides with this one",
        )
    model, info = load_encoder(path)
    if not set(info.panel.genes) & set(data.genes):
        raise InputError(
            "shares no gene with the cohort", path=path, fix="name the genes of both alike"
        )
    head, last = head_of(model), last_layer(model)
    hidden = None
    if isinstance(head, ExpressionHead):
        hidden = SpotHidden(head.fc1.weight.detach(), head.fc1.bias.detach())
    elif head is not last:
        raise InputError(
            f"the head of {info.model} is not linear",
            path=path,
            fix="use form=pooled, without encoder",
        )
    spot_head = SpotHead(last.weight.detach(), hidden)
    return SpotStart(info.panel, spot_head, _patient_inputs(spot_head, data.patients, data.slides))


def _patient_inputs(
    head: SpotHead, patients: Sequence[str], slides: Mapping[str, Sequence[Path]]
) -> NDArray[np.float32]:
    """(M, S), the slides of a patient weighing by their tiles."""
    rows = []
    for patient in tqdm(patients, desc="spot head", unit="patient"):
        total, tiles = torch.zeros(head.weight.shape[1], dtype=torch.float64), 0
        for path in slides[patient]:
            for chunk in torch.from_numpy(read_features(path)[0]).split(_TILES_AT_ONCE):
                total += head.last_input(chunk).sum(dim=0, dtype=torch.float64)
                tiles += len(chunk)
        rows.append((total / max(tiles, 1)).float().numpy())
    return np.stack(rows)
