"""Simulate expression from tissue: gene programmes, spot counts, bulk TPM and survival."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from tcgn_mil.experiments.demo.synthetic.config import REGIONS, SyntheticConfig
from tcgn_mil.experiments.demo.synthetic.tissue import neighbourhood_fractions

_COLOUR_PROGRAMMES = {
    "TUMOUR": ("tumour_a", "tumour_b"),
    "IMMUNE": ("immune",),
    "STROMA": ("stroma",),
    "FAT": ("fat",),
    "NECROSIS": ("necrosis",),
}
_MORPHOLOGY_PROGRAMMES = {"TUMORA": "tumour_a", "TUMORB": "tumour_b"}
# Expression of a morphology gene in its own subtype, and in the other; elsewhere it is 1. This 1
# lies between the arithmetic and the geometric mean of the two, so that the amount of tumour says
# almost nothing about the gene.
_OWN_SUBTYPE, _OTHER_SUBTYPE = 1.8, 0.45
_COLOUR_FOLDS = (4.0, 8.0)
_ABUNDANCE_SD = 0.7
_RNA_CONTENT = np.array([1.0, 1.0, 0.6, 1.2, 0.35, 0.35])  # RNA per area of each of REGIONS
_TYPICAL_RNA_CONTENT = 0.85
_DEPTH_SD = 0.35
_POOR_DEPTH = 0.03  # depth of a poor spot as a share of what it would have been
_COUNT_DISPERSION = 0.2  # the variance of a count is mean + dispersion * mean^2
_NULL_NOISE_SD = 0.35  # genes that follow nothing still vary between patients
_TYPICAL_IMMUNE_FRACTION = 0.14
_MEDIAN_SURVIVAL_DAYS = 1100.0
_FOLLOW_UP_DAYS = (500.0, 3500.0)
# Errors of the other measurements of a patient's tissue: standard deviation of the logarithm of a
# leukocyte fraction, of a tumour purity, and of the logarithm of an area of tissue.
_LEUKOCYTE_SD, _PURITY_SD, _AREA_SD = 0.2, 0.05, 0.15


class GeneProgrammes(NamedTuple):
    """Genes with their truth, and their RNA in each region."""

    table: pd.DataFrame
    """Columns gene, kind (colour, morphology or null), region, and effect (its fold change)."""
    profiles: NDArray[np.float64]
    """(6, G) RNA of each gene per area of REGIONS; each row has the same sum."""

    def measured_on_spots(self, config: SyntheticConfig) -> GeneProgrammes:
        """Return the genes that are measured on spots: all but some that follow nothing.

        Platforms of spatial transcriptomics often measure fewer genes than bulk sequencing.
        """
        null = (self.table["kind"] == "null").to_numpy()
        kept = ~null | (np.cumsum(null) <= config.n_spot_null_genes)
        return GeneProgrammes(self.table[kept].reset_index(drop=True), self.profiles[:, kept])


class Spots(NamedTuple):
    """Spots on tissue.

    Attributes
    ----------
    table
        Table in the layout of her2st, without pixel columns.
    centres_um
        (S, 2) centres in µm, x then y.
    shares
        (S, 7) share of each spot's area: glass, then the regions.
    """

    table: pd.DataFrame
    centres_um: NDArray[np.float64]
    shares: NDArray[np.float32]


def gene_programmes(config: SyntheticConfig) -> GeneProgrammes:
    """Draw the genes and their RNA in each region.

    Abundances are scaled so that the total is the same in every region. TPM are shares of a total:
    without this, a gene that follows nothing would fall wherever another gene rises.
    """
    rng = config.rng("genes")
    number = config.genes_per_programme
    rows, columns = [], []
    morphology_excess = number * (_OWN_SUBTYPE + _OTHER_SUBTYPE - 2)
    for programme, regions in _COLOUR_PROGRAMMES.items():
        inside = np.isin(REGIONS, regions)
        fold = rng.uniform(*_COLOUR_FOLDS, number)
        # RNA per area that the genes of the programme have inside their regions in addition to the
        # level outside, the sum of abundance * (fold - 1). It is the same for every programme, so
        # that the total is the same in every region. Tumour also contains the morphology genes,
        # which take their part of the sum. With 4 per gene and a mean fold of 6, the abundances
        # are around 0.8, similar to those of the other genes.
        excess = 4.0 * number - (morphology_excess if programme == "TUMOUR" else 0)
        abundance = np.exp(rng.normal(0, _ABUNDANCE_SD, number))
        abundance *= excess / (abundance * (fold - 1)).sum()
        columns.append(abundance * np.where(inside[:, None], fold, 1.0))
        region = "tumour" if programme == "TUMOUR" else regions[0]
        rows += [(f"SYN_{programme}_{k + 1:02d}", "colour", region, fold[k]) for k in range(number)]
    for programme, own in _MORPHOLOGY_PROGRAMMES.items():
        abundance = np.exp(rng.normal(0, _ABUNDANCE_SD, number))
        abundance *= number / abundance.sum()
        level = [
            _OWN_SUBTYPE if r == own else _OTHER_SUBTYPE if r.startswith("tumour") else 1.0
            for r in REGIONS
        ]
        columns.append(abundance * np.array(level)[:, None])
        effect = _OWN_SUBTYPE / _OTHER_SUBTYPE
        rows += [(f"SYN_{programme}_{k + 1:02d}", "morphology", own, effect) for k in range(number)]
    abundance = np.exp(rng.normal(0, _ABUNDANCE_SD, config.n_null_genes))
    columns.append(np.tile(abundance, (len(REGIONS), 1)))
    rows += [(f"SYN_NULL_{k + 1:02d}", "null", "", 1.0) for k in range(config.n_null_genes)]
    table = pd.DataFrame(rows, columns=["gene", "kind", "region", "effect"])
    return GeneProgrammes(table, np.concatenate(columns, axis=1))


def lay_spots(
    config: SyntheticConfig, section: str, labels: NDArray[np.uint8], label_mpp: float
) -> Spots:
    """Lay the grid of spots over a section, and keep spots of which at least half is tissue."""
    rng = config.rng(f"spots {section}")
    pitch = config.spot_pitch_um
    width_um, height_um = labels.shape[1] * label_mpp, labels.shape[0] * label_mpp
    grid = np.meshgrid(np.arange(int(width_um / pitch)), np.arange(int(height_um / pitch)))
    x, y = (axis.ravel() for axis in grid)
    moved = np.stack([x, y], axis=1) + rng.normal(0, 0.02, (len(x), 2)).clip(-0.06, 0.06)
    # The grid is centred: its n points span n - 1 pitches, so one pitch and the fraction that the
    # side has beyond n pitches remain, half of it on either side.
    margin = (np.array([width_um, height_um]) / pitch % 1 + 1) / 2 * pitch
    centres_um = moved * pitch + margin
    at = (centres_um / label_mpp).astype(int)
    shares = neighbourhood_fractions(labels, config.spot_diameter_um)[:, at[:, 1], at[:, 0]].T
    kept = shares[:, 0] <= 0.5
    # Array coordinates start at 2, since those of real sections do not start at zero either.
    table = pd.DataFrame(
        {"x": x + 2, "y": y + 2, "new_x": moved[:, 0] + 2, "new_y": moved[:, 1] + 2}
    )
    return Spots(table[kept].reset_index(drop=True), centres_um[kept], shares[kept])


def spot_counts(
    config: SyntheticConfig,
    section: str,
    shares: NDArray[np.float32],
    profiles: NDArray[np.float64],
) -> NDArray[np.int64]:
    """Draw negative-binomial counts (S, G).

    Parameters
    ----------
    config
        Sizes of the cohort.
    section
        Name of the section, which seeds the draw.
    shares
        (S, 7) region shares of the spots, glass first.
    profiles
        (6, G) RNA of each gene in each region.
    """
    rng = config.rng(f"counts {section}")
    content = shares[:, 1:] * _RNA_CONTENT
    amount = content.sum(axis=1)
    proportions = content @ (profiles / profiles.sum(axis=1, keepdims=True)) / amount[:, None]
    depth = (
        config.median_umi
        * amount
        / _TYPICAL_RNA_CONTENT
        * np.exp(rng.normal(0, _DEPTH_SD, len(shares)))
    )
    depth = np.where(
        rng.random(len(shares)) < config.poor_spot_probability, _POOR_DEPTH * depth, depth
    )
    mean = depth[:, None] * proportions
    # A Poisson count whose mean has a gamma factor of mean 1 is negative binomial.
    return rng.poisson(mean * rng.gamma(1 / _COUNT_DISPERSION, _COUNT_DISPERSION, mean.shape))


def bulk_tpm(
    config: SyntheticConfig,
    patient: str,
    fractions: NDArray[np.float64],
    programmes: GeneProgrammes,
) -> NDArray[np.float64]:
    """Simulate the TPM (G,) of a patient.

    Parameters
    ----------
    config
        Sizes of the cohort.
    patient
        Name of the patient; it seeds the noise.
    fractions
        (6,) region fractions of the patient's tissue over all slides.
    programmes
        Genes and their RNA in each region.
    """
    rng = config.rng(f"bulk {patient}")
    mixture = (fractions * _RNA_CONTENT) @ programmes.profiles
    noise = rng.normal(0, config.bulk_noise_sd, len(mixture))
    noise += np.where(
        programmes.table["kind"] == "null", rng.normal(0, _NULL_NOISE_SD, len(mixture)), 0
    )
    noisy = mixture * np.exp(noise)
    return noisy / noisy.sum() * 1e6


def clinical_row(
    config: SyntheticConfig, patient: str, fractions: NDArray[np.float64]
) -> dict[str, object]:
    """Draw age, stage, covariates and survival from region fractions (6,) of a patient's tissue.

    The hazard depends on the immune fraction only. The leukocyte fraction and the tumour purity
    follow the tissue, with the errors of another assay.
    """
    immune_fraction = float(fractions[REGIONS.index("immune")])
    tumour_fraction = float(fractions[np.char.startswith(REGIONS, "tumour")].sum())
    assay = config.rng(f"covariates {patient}")
    leukocytes = immune_fraction * np.exp(assay.normal(0, _LEUKOCYTE_SD))
    purity = np.clip(tumour_fraction + assay.normal(0, _PURITY_SD), 0, 1)
    rng = config.rng(f"clinical {patient}")
    age = int(np.clip(rng.normal(60, 11), 30, 89))
    stage = str(rng.choice(["I", "II", "III", "IV"], p=[0.25, 0.4, 0.25, 0.1]))
    log_hazard = config.immune_log_hazard_ratio * (immune_fraction - _TYPICAL_IMMUNE_FRACTION) / 0.1
    died_days = rng.exponential(_MEDIAN_SURVIVAL_DAYS / np.log(2) / np.exp(log_hazard))
    follow_up_days = rng.uniform(*_FOLLOW_UP_DAYS)
    return {
        "patient_id": patient,
        "age": age,
        "stage": stage,
        "leukocyte_fraction": round(min(leukocytes, 1.0), 3),
        "tumour_purity": round(float(purity), 3),
        "time_days": max(1, round(min(died_days, follow_up_days))),
        "event": int(died_days <= follow_up_days),
    }


def tissue_areas(
    config: SyntheticConfig, slide: str, fractions: NDArray[np.float64]
) -> dict[str, float]:
    """Return the shares of tissue that another tool measures on a slide, with its errors.

    Parameters
    ----------
    config
        Sizes of the cohort.
    slide
        Name of the slide; it seeds the errors.
    fractions
        (6,) region fractions of the slide. The tool does not tell the tumour subtypes apart.
    """
    rng = config.rng(f"areas {slide}")
    areas = {"tumour": float(fractions[0] + fractions[1])}
    areas |= dict(zip(REGIONS[2:], fractions[2:].tolist(), strict=True))
    return {
        f"area_{name}": round(share * float(np.exp(rng.normal(0, _AREA_SD))), 4)
        for name, share in areas.items()
    }
