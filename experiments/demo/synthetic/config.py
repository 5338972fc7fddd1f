"""Sizes of the synthetic cohort, with three presets."""

from __future__ import annotations

import zlib
from dataclasses import dataclass, fields

import numpy as np

from tcgn_mil.errors import InputError

REGIONS = ("tumour_a", "tumour_b", "stroma", "immune", "fat", "necrosis")
"""Tissue regions. In a region map, label r + 1 is REGIONS[r] and label 0 is glass."""

HER2ST_MPP = 100 / 145  # her2st's spots are 100 µm and 145 px across
_MAX_PIXELS = 400_000_000
_MAX_PATIENTS = 9999  # four digits in the barcode
_MAX_LETTERS = 26  # a section's first letter is its patient


@dataclass(frozen=True)
class SyntheticConfig:
    """Sizes of a cohort; :func:`preset` gives those that are in use.

    Lengths are in µm, and widths come before heights.
    """

    seed: int = 0
    n_patients: int = 24
    slides_per_patient: tuple[float, ...] = (0.85, 0.15)
    """Probabilities that a patient has 1, 2, ... slides."""
    slide_size_um: tuple[float, float] = (2000.0, 1600.0)
    slide_tissue_fraction: float = 0.6
    scanner_mpp: tuple[float, ...] = (0.5, 0.4)
    """Pixel size of the scanner of each site in µm; there are as many sites as values."""
    jpeg_quality: int = 92
    pen_probability: float = 0.2
    blur_probability: float = 0.2

    n_sections: int = 6
    n_section_patients: int = 4
    section_size_um: tuple[float, float] = (2100.0, 2100.0)
    section_tissue_fraction: float = 0.85
    section_mpp: float = HER2ST_MPP
    min_section_fraction: float = 0.02
    """Smallest share of each tissue on a section."""
    min_section_tumour: float = 0.02
    """Smallest share of tumour on a section."""
    spot_pitch_um: float = 100.0
    spot_diameter_um: float = 70.0
    median_umi: float = 4000.0
    poor_spot_probability: float = 0.04

    genes_per_programme: int = 14
    """Genes of each programme: five regions that differ in colour, two subtypes that do not."""
    n_null_genes: int = 22
    n_spot_null_genes: int = 1000
    """Largest number of genes that follow nothing and are measured on spots; bulk has them all."""
    dirichlet_concentration: float = 7.0
    """Concentration of region fractions over patients; smaller values vary more."""
    bulk_noise_sd: float = 0.12
    """Standard deviation of the noise on the natural logarithm of a gene's TPM."""
    immune_log_hazard_ratio: float = -1.2
    """Log hazard ratio for each 10 % of the tissue that is immune."""

    def __post_init__(self) -> None:
        for field in fields(self):
            _check_positive(field.name, getattr(self, field.name))
        for name in ("slide_tissue_fraction", "section_tissue_fraction"):
            _require(
                getattr(self, name) <= 0.9, f"{name} must be at most 0.9, so that glass is left"
            )
        _require(self.n_patients <= _MAX_PATIENTS, f"n_patients must be at most {_MAX_PATIENTS}")
        limit = min(self.n_patients, self.n_sections, _MAX_LETTERS)
        _require(self.n_section_patients <= limit, f"n_section_patients must be at most {limit}")
        _require(abs(sum(self.slides_per_patient) - 1) < 1e-6, "slides_per_patient must sum to 1")
        sizes = [(self.section_size_um, self.section_mpp)] + [
            (self.slide_size_um, mpp) for mpp in self.scanner_mpp
        ]
        for (width, height), mpp in sizes:
            _require(
                width * height / mpp**2 <= _MAX_PIXELS,
                f"an image would exceed {_MAX_PIXELS} pixels",
            )

    @property
    def patients(self) -> list[str]:
        """Patient ids, in the form of TCGA barcodes of 12 characters.

        Characters 6 and 7 name the site; patients are assigned to sites in turn.
        """
        return [
            f"TCGA-{self._site_code(index)}-{index + 1:04d}" for index in range(self.n_patients)
        ]

    def site_of(self, patient: str) -> int:
        """Return the number of a patient's site, which decides scanner and stain."""
        return (int(patient[-4:]) - 1) % len(self.scanner_mpp)

    def _site_code(self, index: int) -> str:
        return f"S{chr(ord('A') + index % len(self.scanner_mpp))}"

    @property
    def sections(self) -> dict[str, str]:
        """Patient of each section; sections are called A1, A2, B1, ..., a letter for each patient.

        These patients have no slides. An encoder that is pretrained on them has seen no patient of
        the bulk cohort.
        """
        per_patient, left_over = divmod(self.n_sections, self.n_section_patients)
        return {
            f"{chr(ord('A') + index)}{number + 1}": patient
            for index, patient in enumerate(
                f"TCGA-ST-{k + 1:04d}" for k in range(self.n_section_patients)
            )
            for number in range(per_patient + (index < left_over))
        }

    def rng(self, item: str) -> np.random.Generator:
        """Return the random generator of a named item.

        Each item has its own, so that no item depends on the order in which items are made.
        """
        return np.random.default_rng([self.seed, zlib.crc32(item.encode())])


def preset(name: str, seed: int = 0) -> SyntheticConfig:
    """Return the sizes of a preset.

    Parameters
    ----------
    name
        ``demo`` (60 patients with small slides), ``study`` (60 patients with large slides, for
        evaluation) or ``test`` (10 small patients, made in seconds).
    seed
        Seed of the cohort.

    Raises
    ------
    InputError
        If `name` is another word.

    Examples
    --------
    >>> preset("test").n_patients
    10
    """
    if name == "demo":
        # The combined z of a gene over n patients in four folds has a standard deviation of
        # 1 / sqrt(n - 12). With 24 patients and 22 genes that follow nothing, their median r lies
        # within 0.08 of 0 by chance alone; with 60 patients and 56 genes within 0.025. The area of
        # tissue, which takes the time, is smaller than that of 24 patients with the default slides.
        return SyntheticConfig(
            seed=seed,
            n_patients=60,
            slides_per_patient=(0.9, 0.1),
            slide_size_um=(1200.0, 960.0),
            # A study chooses sections that show all tissues, and much tumour. Drawn at random,
            # those that train may have hardly any necrosis, or too little tumour to learn its
            # nuclei from.
            min_section_fraction=0.06,
            min_section_tumour=0.5,
            n_null_genes=56,
            n_spot_null_genes=22,
        )
    if name == "study":
        return SyntheticConfig(
            seed=seed,
            n_patients=60,
            slides_per_patient=(0.5, 0.3, 0.2),
            slide_size_um=(3000.0, 2400.0),
            n_sections=12,
            n_section_patients=8,
        )
    if name == "test":
        return SyntheticConfig(
            seed=seed,
            n_patients=10,
            slide_size_um=(900.0, 700.0),
            n_sections=4,
            n_section_patients=3,
            section_size_um=(1000.0, 1000.0),
            section_tissue_fraction=0.75,
            genes_per_programme=3,
            n_null_genes=3,
        )
    raise InputError(f"unknown preset {name!r}", fix="use demo, study or test")


def _check_positive(name: str, value: float | tuple[float, ...]) -> None:
    """Check that sizes are above zero and probabilities within 0 to 1."""
    values = np.atleast_1d(np.asarray(value, dtype=float))
    if not (len(values) and np.isfinite(values).all()):
        raise InputError(f"{name} must be finite, but is {value}")
    if name == "immune_log_hazard_ratio":
        return
    may_be_zero = (
        name == "seed"
        or "probability" in name
        or name == "slides_per_patient"
        or name.endswith("_sd")
    )
    if (values < 0).any() or (not may_be_zero and (values == 0).any()):
        raise InputError(
            f"{name} must be {'0 or more' if may_be_zero else 'above 0'}, but is {value}"
        )
    if "probability" in name and (values > 1).any():
        raise InputError(f"{name} must be at most 1, but is {value}")


def _require(holds: bool, reason: str) -> None:
    if not holds:
        raise InputError(reason, fix="change this value of the SyntheticConfig")
