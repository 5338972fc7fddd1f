"""Parse units of bulk expression, check values against them, and convert to the training scale."""

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
# Logarithms that are brought to base 2 when a table is read, with the factor that does so.
LOG_FACTORS = {"log2": 1.0, "ln": float(np.log2(np.e)), "log10": float(np.log2(10))}
_LOG_NAMES = {"ln": "natural", "log10": "decimal"}
_TPM_TOTAL = 1e6
# Tables of TPM round their values and often lack a few genes, so their sums are near 1e6 only.
_TPM_TOLERANCE = 0.05
# 2^40 is above any expression value. Linear values that are declared as logarithms exceed 40.
_LOG_CEILING = 40.0
_ROUNDING = 1e-3  # counts of RSEM and similar tools, stored as text, may be off by this much


@dataclass(frozen=True)
class ExpressionUnit:
    """A unit of expression, such as ``tpm``, ``counts``, ``log2(fpkm+1)`` or ``zscore``.

    Parameters
    ----------
    base
        A key of `LINEAR_UNITS`, or ``zscore``.
    log_offset
        x if the values are log2(base + x). None if they are not logarithms.

    Examples
    --------
    >>> unit = ExpressionUnit.parse("log2(TPM + 1)")
    >>> unit.base, unit.log_offset, unit.training_unit
    ('tpm', 1.0, 'log2(TPM + 1)')
    """

    base: str
    log_offset: float | None = None

    @classmethod
    def parse(cls, text: str) -> ExpressionUnit:
        """Parse a unit as users write it. Spaces and case do not matter.

        Parameters
        ----------
        text
            For example ``TPM``, ``log2(fpkm + 1)`` or ``zscore``.

        Returns
        -------
        ExpressionUnit

        Raises
        ------
        InputError
            If the unit is not known. The message lists the known units.
        """
        plain = re.sub(r"\s+", "", text.lower())
        if plain in LINEAR_UNITS or plain == ZSCORE:
            return cls(plain)
        match = _LOG.fullmatch(plain)
        offset = _non_negative_number(match["offset"]) if match else None
        if match is None or offset is None or match["base"] not in LINEAR_UNITS:
            raise InputError(
                f"unknown expression unit {text!r}",
                fix=f"choose {', '.join(LINEAR_UNITS)}, log2(tpm+1) or another log2(unit+offset),"
                f" or {ZSCORE}; tables may also hold ln(unit+offset) or log10(unit+offset)",
            )
        return cls(match["base"], offset)

    @classmethod
    def parse_declared(cls, text: str) -> tuple[ExpressionUnit, str]:
        """Parse the unit of a table, whose logarithms may be natural (``ln``) or decimal.

        Returns
        -------
        unit : ExpressionUnit
            The unit after the logarithms were brought to base 2.
        logarithm : str
            Key of `LOG_FACTORS` for the values as they are in the table; empty if they are no
            logarithms. The factor brings them to `unit`.

        Raises
        ------
        InputError
            If the unit is not known.

        Examples
        --------
        >>> unit, logarithm = ExpressionUnit.parse_declared("ln(tpm+1)")
        >>> str(unit), round(LOG_FACTORS[logarithm], 4)  # log2(x) = ln(x) / ln(2)
        ('log2(tpm+1)', 1.4427)
        """
        plain = re.sub(r"\s+", "", text.lower())
        plain = re.sub(r"^log1p\((.*)\)$", r"ln(\1+1)", plain)
        name = next((name for name in ("ln", "log10") if plain.startswith(name + "(")), "")
        unit = cls.parse("log2" + plain.removeprefix(name) if name else text)
        return unit, name or ("" if unit.log_offset is None else "log2")

    def __str__(self) -> str:
        return self.base if self.log_offset is None else f"log2({self.base}+{self.log_offset:g})"

    @property
    def is_linear(self) -> bool:
        """True if the values are neither logarithms nor z-scores."""
        return self.log_offset is None and self.base != ZSCORE

    @property
    def needs_ranks(self) -> bool:
        """True if training replaces the values by their ranks among the training patients.

        This holds for z-scores. Published z-scores reach 1e4 for genes with little expression, and
        such values would dominate a squared error.
        """
        return self.base == ZSCORE

    @property
    def training_unit(self) -> str:
        """Name of the unit of training targets and predictions, for example ``log2(TPM + 1)``."""
        if self.needs_ranks:
            return "normal score of the rank among training patients"
        base = "CPM" if self.base == "counts" and self.is_linear else LINEAR_UNITS[self.base]
        return f"log2({base} + {1 if self.log_offset is None else self.log_offset:g})"

    @classmethod
    def floor_of(cls, training_unit: str) -> float | None:
        """Return the lowest value that a training unit allows.

        Parameters
        ----------
        training_unit
            A name as :attr:`training_unit` gives it.

        Returns
        -------
        float or None
            log2(x) for ``log2(... + x)``; None if the unit has no lowest value.

        Examples
        --------
        >>> ExpressionUnit.floor_of("log2(TPM + 1)")
        0.0
        """
        match = re.fullmatch(r"log2\(.* \+ (?P<offset>[0-9.eE-]+)\)", training_unit)
        if match is None or float(match["offset"]) <= 0:
            return None
        return float(np.log2(float(match["offset"])))

    def check(self, values: NDArray[np.floating], *, path: object = None) -> None:
        """Check that values are possible in this unit.

        A wrong unit is the most common mistake with public expression tables, and nothing fails
        later: the model only learns a wrong scale. Most wrong declarations show in the sign, the
        range, or the sum over the genes of a sample.

        Parameters
        ----------
        values
            (M, G). NaN values are ignored.
        path
            File of the values, for the error message.

        Raises
        ------
        InputError
            If there are no values at all; negative values or fractions in a unit that has none;
            sums that are not those of TPM; or linear values that are declared as logarithms.
        """
        file = None if path is None else str(path)
        finite = values[np.isfinite(values)]
        if not finite.size:
            raise InputError("holds no number", path=file, fix="check the layout of the table")
        low, high = float(finite.min()), float(finite.max())
        if self.is_linear:
            if low < 0:
                raise InputError(
                    f"has values down to {low:.3g}, but {self} is never negative",
                    path=file,
                    fix="declare the unit of the values: --unit zscore or --unit 'log2(...)'",
                )
            self._check_totals(np.nansum(values, axis=1, dtype=np.float64), path=file)
            if self.base == "counts" and np.abs(finite - np.round(finite)).max() > _ROUNDING:
                raise InputError(
                    "has fractional values, but counts are whole numbers",
                    path=file,
                    fix="declare the unit of the values with --unit",
                )
        elif self.needs_ranks:
            self.check_sign(values, path=path)
        else:
            floor = np.log2(self.log_offset) if self.log_offset else -np.inf
            if low < floor - 0.05 or high > _LOG_CEILING:
                raise InputError(
                    f"has values from {low:.3g} to {high:.3g}, which cannot be {self}",
                    path=file,
                    fix="check the offset, or declare the linear unit",
                )
            totals = np.nansum(np.exp2(values, dtype=np.float64) - self.log_offset, axis=1)
            self._check_base_of_logarithm(values, totals, path=file)
            self._check_totals(totals, path=file)

    def _check_base_of_logarithm(
        self, values: NDArray[np.floating], totals: NDArray[np.float64], *, path: str | None
    ) -> None:
        """Refuse natural and decimal logarithms that are declared as log2.

        TPM of all genes sum to 1e6, and other units that are scaled by the total have one sum in
        all samples. If the values have such sums in another base, and not in base 2, the other base
        is theirs. A selection of genes and FPKM have no such sum, so that nothing can be seen.
        """
        for name in ("ln", "log10"):
            # b^v = 2^(v log2(b)), so the factor to base 2 gives the sums in the other base.
            powers = np.exp2(values.astype(np.float64) * LOG_FACTORS[name]) - (self.log_offset or 0)
            other = np.nansum(powers, axis=1)
            is_tpm = self.base == "tpm" and np.all(np.abs(other / _TPM_TOTAL - 1) < _TPM_TOLERANCE)
            is_scaled = len(other) >= 3 and _spread(other) < 5e-3 and _spread(totals) > 5e-2
            if is_tpm or is_scaled:
                raise InputError(
                    f"holds {_LOG_NAMES[name]} logarithms, not log2: every sample sums to about"
                    f" {np.median(other):.4g} with these, and with log2 to {totals.min():.4g} up to"
                    f" {totals.max():.4g}",
                    path=path,
                    fix=f"declare --unit '{name}({self.base}+{self.log_offset:g})', and the values"
                    " are brought to base 2",
                )

    def check_sign(self, values: NDArray[np.floating], *, path: object = None) -> None:
        """Check that the z-scores of a cohort have negative values. Other units always pass.

        Parameters
        ----------
        values
            (M, G).
        path
            File of the values, for the error message.

        Raises
        ------
        InputError
            If the unit is ``zscore`` and no value is negative.
        """
        if self.needs_ranks and values.size and not (values < 0).any():
            raise InputError(
                "has no negative value, so these are not z-scores",
                path=None if path is None else str(path),
                fix="declare the unit of the values with --unit; cohorts in different units cannot"
                " be joined, so convert one of them first",
            )

    def _check_totals(self, totals: NDArray[np.float64], *, path: str | None) -> None:
        """Check the sums over genes (M,).

        TPM of all genes sum to 1e6. Logarithms of TPM are often published for a selection of genes,
        so only sums above 1e6 are an error there.
        """
        if self.base == "counts":
            wrong, expected = totals <= 0, "have no count at all"
        elif self.base == "tpm" and self.is_linear:
            wrong = np.abs(totals / _TPM_TOTAL - 1) > _TPM_TOLERANCE
            expected = "do not sum to 1e6"
        elif self.base in ("tpm", "tpm-subset"):
            wrong, expected = totals / _TPM_TOTAL - 1 > _TPM_TOLERANCE, "sum to more than 1e6"
        else:
            return
        if wrong.any():
            raise InputError(
                f"{int(wrong.sum())} of {len(totals)} samples {expected}, the first sums to"
                f" {totals[wrong][0]:.4g}",
                path=path,
                fix="remove these samples"
                if self.base == "counts"
                else "declare tpm-subset if the table holds a selection of genes, or else the unit"
                " of the values",
            )

    def to_training(self, values: NDArray[np.floating]) -> NDArray[np.float32]:
        """Convert values to the training unit.

        Linear values become log2(x + 1). Counts are first scaled to a sum of 1e6 in each sample;
        therefore give all measured genes, and select a panel afterwards. Logarithms do not change.
        Z-scores do not change here either; they are ranked later, within the training patients.

        Parameters
        ----------
        values
            (M, G) in this unit.

        Returns
        -------
        ndarray
            (M, G) float32 in :attr:`training_unit`.

        Examples
        --------
        >>> import numpy as np
        >>> ExpressionUnit.parse("tpm").to_training(np.array([[0.0, 1.0, 3.0]])).tolist()
        [[0.0, 1.0, 2.0]]
        """
        if not self.is_linear:
            return values.astype(np.float32)
        linear = values.astype(np.float64)
        if self.base == "counts":
            totals = np.nansum(linear, axis=1, keepdims=True)
            linear = linear * (1e6 / np.maximum(totals, 1))
        return np.log2(linear + 1).astype(np.float32)


def _spread(totals: NDArray[np.float64]) -> float:
    """Return the range of sums relative to their mean."""
    return float(np.ptp(totals) / max(abs(totals.mean()), 1e-12))


def _non_negative_number(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if 0 <= value < float("inf") else None
