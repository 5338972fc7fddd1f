"""Settings for the names of patients in a published model."""

from __future__ import annotations

from typing import Literal

# tcgn_mil.inference.training_names says what each of them means.
NameTreatment = Literal["hashed", "kept", "removed"]
