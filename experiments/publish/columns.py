"""Describe each column of exported predictions in a sentence, with its unit."""

from __future__ import annotations

from tcgn_mil.experiments.runs.glossary import PREDICTORS

_COLUMNS = {
    "patient_id": "Name of the patient, as in the run.",
    "fold": "Number of the fold whose model predicted the patient; this model had not seen the"
    " patient.",
    "n_slides": "Number of slides of the patient.",
    "n_tiles": "Number of tiles on these slides.",
    "n_models": "Number of fold models that predicted the patient: one for a patient of the"
    " training cohort, all for a new one.",
    "relation": "`out of fold`: predicted by the one model that had not seen the patient. `new`: no"
    " model had seen the patient. `trained on`: models had seen the patient, and the prediction"
    " looks better than it is. `not known`: the model was published without names.",
    "cohort": "Expression table that the patient comes from.",
    "donor": "Person behind the row, where a row is a section of a person.",
    "ood_score": "Distance from the training patients, in standard deviations of theirs; 0 is"
    " usual.",
    "ood_p": "Probability of such a score, or a higher one, for a patient of the training kind.",
    "ood_state": "`in`, `out` (ood_p of at most 0.05) or `unknown` (too few training patients).",
    "ood_level": "The mean of the tiles is unusual (`patient`), their spread (`tiles`), or `both`.",
    "interval_coverage": "Share of measured values inside the prediction intervals: of a patient"
    " over genes, or of a gene over patients. Each fold was left out of its own calibration.",
    "squared_error": "Mean over genes of the squared error, in units of the variance of the gene.",
    "r_over_genes": "Pearson r of predicted and measured values over the genes of the patient.",
    "gene": "Name of the gene.",
    "low_model": "Lower bound of the 95 % interval of r_model, over patients.",
    "high_model": "Upper bound of the 95 % interval of r_model, over patients.",
    "p_model": "One-sided p-value of r_model > 0.",
    "q_model": "p_model, corrected for the number of genes by Benjamini and Hochberg.",
    "pooled_spearman_model": "Spearman r of the model over all folds at once (biased).",
    "pooled_r2_model": "R2 of the model over all folds at once.",
    "pooled_rmse_model": "Root of the mean squared error, over all folds at once, in the unit of"
    " expression.",
    "n": "Number of patients with a measured value.",
    "predictable": "Whether q_model is below 0.05 and r_model is above that of every baseline.",
    "sequoia": "Whether the gene passes the rule of SEQUOIA, for comparison with its counts.",
    "interval_half_width": "Half the width of the prediction interval, in the unit of expression.",
    "in_spot_panel": "Whether the encoder was trained on this gene in spatial transcriptomics.",
}
UNKNOWN = "A column that this version of the package does not describe."


def describe_column(name: str) -> str:
    """Return the meaning of a column of the tables of patients or genes.

    Examples
    --------
    >>> describe_column("r_ridge_colour")
    'Pearson r of ridge on colour within test folds, combined over folds.'
    """
    if name in _COLUMNS:
        return _COLUMNS[name]
    for start, meaning in (
        ("pooled_r_", "Pearson r of {} over all folds at once (biased)."),
        ("r_", "Pearson r of {} within test folds, combined over folds."),
    ):
        predictor = name.removeprefix(start)
        if name.startswith(start):
            return meaning.format(PREDICTORS.get(predictor, f"the predictor {predictor}"))
    return UNKNOWN
