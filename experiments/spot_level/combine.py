"""Combine the test sections of a spot-level run: mean r, intervals, p-values, predictable genes.

The r of a gene is averaged over sections. Its p-value is harder, because sections are not
independent:

1. Sections of one patient are often serial cuts of one piece of tissue. They count as one
   observation: the mean of their Fisher z, at the mean of their effective sample sizes n. This is
   as if one section repeated the other.
2. Patients are combined by Fisher z, each with the weight n - 3, the inverse variance of z.
3. The models of two folds share training patients, and a section that is tested in one fold trains
   the model of another. Each pair of folds is correlated in both directions, so the combined z has
   up to twice the variance that it would have otherwise. With more than one fold it is therefore
   divided by sqrt(2), and the p-values are called approximate (docs/protocol.md, section
   Predictable genes).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.stats import norm

from tcgn_mil.experiments.spot_level.evaluate import (
    MODEL,
    SectionResults,
    headline_interval,
    predictable,
)
from tcgn_mil.statistics.bootstrap import percentile_interval
from tcgn_mil.statistics.fold_combination import combine_folds
from tcgn_mil.statistics.gene_metrics import median_over_genes
from tcgn_mil.statistics.p_values import benjamini_hochberg
from tcgn_mil.statistics.sequencing_depth import DETECTION_FLOOR, headline

_FOLD_DEPENDENCE = np.sqrt(2)  # standard deviation of the combined z under the null
NULL_SINGLE = "modified t-test"
NULL_ONE_FOLD = "Fisher z at effective sample sizes, sections of a patient counted as one"
NULL_APPROXIMATE = f"approximate (the models of two folds share training patients): {NULL_ONE_FOLD}"


class RunResults(NamedTuple):
    """Results over all test sections.

    Attributes
    ----------
    genes
        One row for each gene of any fold.
    summary
        One row for each predictor, with its headline.
    """

    genes: pd.DataFrame
    summary: pd.DataFrame


def combine_sections(
    results: Mapping[str, SectionResults], *, folds: int, patient_of: Mapping[str, str]
) -> RunResults:
    """Combine the results of sections, whose gene panels may differ between folds.

    Parameters
    ----------
    results
        Results by section. A gene that a fold did not choose is NA in the sections of that fold.
    folds
        Number of folds that the sections were tested in.
    patient_of
        Patient of each section.

    Returns
    -------
    RunResults
        The columns of ``genes`` are ``sections`` (number of sections in which the model has an r),
        ``detection`` (share of all test spots in which the gene is seen), the mean plain and
        depth-adjusted r of each predictor, and for the model its interval, ``p``, ``q`` and
        ``predictable``.
    """
    # Genes of any fold, in the order of their first appearance. reindex makes a gene NaN in the
    # sections of a fold that did not choose it, and NaN counts nowhere below.
    names = list(dict.fromkeys(gene for part in results.values() for gene in part.genes["gene"]))
    tables = [part.genes.set_index("gene").reindex(names) for part in results.values()]
    spots = np.array([part.summary["spots"].iloc[0] for part in results.values()], dtype=float)
    detection = _detection(tables, spots)
    patients = [patient_of[name] for name in results]
    predictors = list(
        dict.fromkeys(name for part in results.values() for name in part.summary["predictor"])
    )
    genes = pd.DataFrame({"gene": names, "detection": detection})
    rows = []
    for name in predictors:
        plain, adjusted = (_stack(tables, f"{kind}_{name}") for kind in ("r", "depth_adjusted_r"))
        genes[f"r_{name}"], genes[f"depth_adjusted_r_{name}"] = _mean(plain), _mean(adjusted)
        drawn = _mean_replicates(results, names, name)
        if name == MODEL:
            genes["sections"] = np.isfinite(adjusted).sum(axis=0)
            if drawn is not None:
                genes = genes.assign(**_tested(tables, adjusted, drawn, detection, folds, patients))
        # The interval belongs to the headline of mean r over sections. A mean of the sections' own
        # intervals would be too wide, since their errors partly cancel.
        bounds = (float("nan"),) * 2 if drawn is None else headline_interval(drawn, detection)
        rows.append(_row(genes, name, bounds, results))
    if f"q_{MODEL}" in genes:
        genes["predictable"] = predictable(genes)
        rows[predictors.index(MODEL)] |= {
            "significant": int((genes[f"q_{MODEL}"] < 0.05).sum()),
            "predictable": int(genes["predictable"].sum()),
            "p_values": NULL_SINGLE
            if len(results) == 1
            else NULL_ONE_FOLD
            if folds == 1
            else NULL_APPROXIMATE,
        }
    return RunResults(genes, pd.DataFrame(rows))


def _stack(tables: Sequence[pd.DataFrame], column: str) -> NDArray[np.float64]:
    """Return one column of all sections (sections, G); NaN where a section lacks the column."""
    width = len(tables[0])
    return np.stack(
        [
            table[column].to_numpy(float) if column in table else np.full(width, np.nan)
            for table in tables
        ]
    )


def _detection(tables: Sequence[pd.DataFrame], spots: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the share of spots in which each gene is seen (G,).

    Only the sections whose fold has the gene count.
    """
    # Sections weigh by their spots, which makes this the share over all spots together.
    seen = np.stack([table["detection"].to_numpy(float) for table in tables])
    weight = np.where(np.isfinite(seen), spots[:, None], 0)
    return np.asarray((np.nan_to_num(seen) * weight).sum(axis=0) / weight.sum(axis=0))


def _mean(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the mean over sections that have a value (G,); NaN where none has."""
    counted = np.isfinite(values)
    with np.errstate(invalid="ignore"):
        return np.where(counted, values, 0).sum(axis=0) / np.where(
            counted.any(axis=0), counted.sum(axis=0), np.nan
        )


def _mean_replicates(
    results: Mapping[str, SectionResults], names: Sequence[str], predictor: str
) -> NDArray[np.float32] | None:
    """Return the mean over sections of resampled r (R, G); None where no section has replicates."""
    # Replicates are added up section by section, so that those of all sections need not be held at
    # once. The r-th replicate of the mean is the mean of the r-th replicates.
    total: NDArray[np.floating] | None = None
    counted: NDArray[np.integer] | None = None
    for part in results.values():
        drawn = part.replicates.get(predictor)
        if drawn is None:
            continue
        columns = pd.Index(part.genes["gene"]).get_indexer(pd.Index(names))
        aligned = np.where(columns >= 0, drawn[:, columns], np.nan)
        has = np.isfinite(aligned)
        total = np.where(has, aligned, 0) + (0 if total is None else total)
        counted = has + (0 if counted is None else counted)
    if total is None or counted is None:
        return None
    return np.asarray(total / np.where(counted > 0, counted, np.nan), dtype=np.float32)


def _tested(
    tables: Sequence[pd.DataFrame],
    adjusted: NDArray[np.float64],
    drawn: NDArray[np.float32],
    detection: NDArray[np.float64],
    folds: int,
    patients: Sequence[str],
) -> dict[str, NDArray]:
    """Return the interval, p and q of the model's r as columns."""
    effective = _stack(tables, f"effective_n_{MODEL}")
    if len(tables) == 1:
        p = tables[0][f"p_{MODEL}"].to_numpy(float)
    else:
        # One mask of sections for each patient.
        rows = [
            np.array([name == patient for name in patients]) for patient in dict.fromkeys(patients)
        ]
        fisher = np.arctanh(np.clip(adjusted, -0.999999, 0.999999))  # finite also where |r| is 1
        # combine_folds takes r, so the mean z of a patient is turned back into an r.
        r = np.tanh(np.stack([_mean(fisher[row]) for row in rows]))
        # A gene counts even if only one patient has an r for it: what is combined here are
        # patients, each with an effective sample size, not folds.
        z = combine_folds(
            r, np.nan_to_num(np.stack([_mean(effective[row]) for row in rows])), min_folds=1
        ).z
        p = norm.sf(z / (_FOLD_DEPENDENCE if folds > 1 else 1))
    low, high = percentile_interval(drawn)
    # Genes that are seen in few spots have noisy r. They are left out before the correction and
    # not after it, so that they do not make it stricter for the others.
    q = benjamini_hochberg(p, detection >= DETECTION_FLOOR)
    return {f"low_{MODEL}": low, f"high_{MODEL}": high, f"p_{MODEL}": p, f"q_{MODEL}": q}


def _row(
    genes: pd.DataFrame,
    name: str,
    bounds: tuple[float, float],
    results: Mapping[str, SectionResults],
) -> dict[str, Any]:
    """Return the row of a predictor: its headline, and the range of those of single sections."""
    seen = genes["detection"] >= DETECTION_FLOOR
    own = pd.concat([part.summary for part in results.values()])
    first = own[own["predictor"] == name]
    own = first["headline"]
    return {
        "predictor": name,
        "normalisation": first["normalisation"].iloc[0],
        "sections": len(own),
        "headline": headline(
            genes[f"depth_adjusted_r_{name}"].to_numpy(), genes["detection"].to_numpy()
        ),
        "headline_low": bounds[0],
        "headline_high": bounds[1],
        "least_section": own.min(),
        "most_section": own.max(),
        "median_r_seen": median_over_genes(genes.loc[seen, f"r_{name}"].to_numpy()),
        "median_r_all": median_over_genes(genes[f"r_{name}"].to_numpy()),
        "median_r_all_other": first["median_r_all_other"].mean()
        if "median_r_all_other" in first
        else float("nan"),
        "genes_seen": int(seen.sum()),
        "genes_na": int(genes[f"r_{name}"].isna().sum()),
    }
