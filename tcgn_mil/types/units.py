"""Units of bulk expression: declared, checked against the values, and brought to the scale that models train on."""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tcgn_mil.errors import InputError

LINEAR_UNITS = {
    "tpm": "TPM",
    "tpm-subset": "TPM",
    "fpkm": "FPKM",
    "fpkm-uq": "FPKM-UQ",
    "counts": "counts",
}
ZSCORE = "zscore"
_LOG = re.compile(r"log2\((?P<base>[a-z-]+)\+(?P<offset>[0-9.eE-]+)\)")
_TPM_TOTAL = 1e6
_TPM_TOLERANCE = 0.05
_LOG_CEILING = 40.0  # 2^40: no expression value; linear values declared as logs exceed it
_ROUNDING = 1e-3


@dataclass(frozen=True)
class ExpressionUnit:
    """A unit such as ``tpm``, ``counts``, ``log2(fpkm+1)`` or ``zscore``.

    Attributes
    ----------
    base
        Linear unit, or ``zscore``.
    log_offset
        x in log2(base + x); None for linear values.
    """

    base: str
    log_offset: float | None = None

    @classmethod
    def parse(cls, text: str) -> ExpressionUnit:
        """Read a unit as users write it; spaces and case do not matter.

        Raises
        ------
        InputError
            Naming the units there are.
        """
        plain = re.sub(r"\s+", "", text.lower())
        if plain in LINEAR_UNITS or plain == ZSCORE:
            return cls(plain)
        found = _LOG.fullmatch(plain)
        offset = _number(found["offset"]) if found else None
        if found is None or offset is None or found["base"] not in LINEAR_UNITS:
            raise InputError(
                f"unknown expression unit {text!r}",
                fix=f"choose {', '.join(LINEAR_UNITS)}, log2(tpm+1) or another log2(unit+offset), or {ZSCORE}",
            )
        return cls(found["base"], offset)

    def __str__(self) -> str:
        return self.base if self.log_offset is None else f"log2({self.base}+{self.log_offset:g})"

    @property
    def is_linear(self) -> bool:
        """Whether values are neither logs nor z-scores."""
        return self.log_offset is None and self.base != ZSCORE

    @property
    def needs_ranks(self) -> bool:
        """Whether training ranks the values among its patients, since z-scores have tails up to 1e4."""
        return self.base == ZSCORE

    @property
    def training_unit(self) -> str:
        """The unit of training targets and predictions."""
        if self.needs_ranks:
            return "normal score of the rank among training patients"
        base = "CPM" if self.base == "counts" and self.is_linear else LINEAR_UNITS[self.base]
        return f"log2({base} + {1 if self.log_offset is None else self.log_offset:g})"

    @classmethod
    def floor_of(cls, training_unit: str) -> float | None:
        """The lowest possible value in a training unit's name, None where there is none."""
        found = re.fullmatch(r"log2\(.* \+ (?P<offset>[0-9.eE-]+)\)", training_unit)
        if found is None or float(found["offset"]) <= 0:
            return None
        return float(np.log2(float(found["offset"])))

    def check(self, values: NDArray[np.floating], *, path: object = None) -> None:
        """Refuse values (M, G) that this unit cannot have.

        Raises
        ------
        InputError
            For negatives or fractions where there are none, sums that are no TPM, or linear values declared as logs.
        """
        where = None if path is None else str(path)
        known = values[np.isfinite(values)]
        if not known.size:
            raise InputError("holds no number", path=where, fix="check the table's layout")
        low, high = float(known.min()), float(known.max())
        if self.is_linear:
            if low < 0:
                raise InputError(
                    f"has values down to {low:.3g}, but {self} has no negative ones",
                    path=where,
                    fix="declare --unit zscore or log2(...), whichever it is",
                )
            self._check_totals(np.nansum(values, axis=1, dtype=np.float64), path=where)
            if self.base == "counts" and np.abs(known - np.round(known)).max() > _ROUNDING:
                raise InputError(
                    "has fractional values, but counts are whole numbers",
                    path=where,
                    fix="declare the unit it has",
                )
        elif self.needs_ranks:
            self.check_sign(values, path=path)
        else:
            floor = np.log2(self.log_offset) if self.log_offset else -np.inf
            if low < floor - 0.05 or high > _LOG_CEILING:
                raise InputError(
                    f"has values from {low:.3g} to {high:.3g}, which cannot be {self}",
                    path=where,
                    fix="check the offset, or declare the linear unit",
                )
            linear = np.exp2(values, dtype=np.float64) - self.log_offset
            self._check_totals(np.nansum(linear, axis=1), path=where)

    def check_sign(self, values: NDArray[np.floating], *, path: object = None) -> None:
        """Refuse a cohort's values (M, G) declared as z-scores of which none is negative.

        Raises
        ------
        InputError
            Naming `path`.
        """
        if self.needs_ranks and values.size and not (values < 0).any():
            raise InputError(
                "has no negative value, so these are no z-scores",
                path=None if path is None else str(path),
                fix="declare the unit it has; cohorts in different units cannot be joined: bring one to the other's",
            )

    def _check_totals(self, totals: NDArray[np.float64], *, path: str | None) -> None:
        """Refuse sums over genes (M,) that cannot be; logs of TPM are often of a gene selection, with lower sums."""
        if self.base == "counts":
            off, expected = totals <= 0, "have no count at all"
        elif self.base == "tpm" and self.is_linear:
            off, expected = np.abs(totals / _TPM_TOTAL - 1) > _TPM_TOLERANCE, "do not sum to 1e6"
        elif self.base in ("tpm", "tpm-subset"):
            off, expected = totals / _TPM_TOTAL - 1 > _TPM_TOLERANCE, "sum to more than 1e6"
        else:
            return
        if off.any():
            raise InputError(
                f"{int(off.sum())} of {len(totals)} samples {expected}, the first sums to {totals[off][0]:.4g}",
                path=path,
                fix="remove these samples"
                if self.base == "counts"
                else "declare tpm-subset for a selection of genes, or the unit it really has",
            )

    def to_training(self, values: NDArray[np.floating]) -> NDArray[np.float32]:
        """(M, G) in this unit -> the training unit.

        Linear units become log2(x + 1); counts are first scaled to 1e6 a sample over the genes given, which therefore
        are all genes measured, a panel being chosen afterwards; logs stay as they are; z-scores too, and are ranked
        within the training patients later.
        """
        if not self.is_linear:
            return values.astype(np.float32)
        linear = values.astype(np.float64)
        if self.base == "counts":
            totals = np.nansum(linear, axis=1, keepdims=True)
            linear = linear * (1e6 / np.maximum(totals, 1))
        return np.log2(linear + 1).astype(np.float32)


def _number(text: str) -> float | None:
    """A number of 0 or more, else None."""
    try:
        value = float(text)
    except ValueError:
        return None
    return value if 0 <= value < float("inf") else None
