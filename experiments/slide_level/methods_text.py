"""A methods paragraph from what a run's config says, for a paper; it states what was done, not what was found."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_POOLINGS = {
    "gated": "gated attention",
    "attention": "attention",
    "mean": "the mean over tiles",
    "max": "their maximum",
    "transformer": "a transformer with linear attention",
}


def methods_paragraph(kind: str, made: Mapping[str, Any], summary: Mapping[str, Any]) -> str:
    """One paragraph for a run.

    Parameters
    ----------
    kind
        Verb that made it.
    made, summary
        Its run.json and summary.json.
    """
    text = {
        "finetune": _finetune,
        "predict": _predict,
        "associate": _associate,
        "survive": _survive,
        "spot-cv": _spots,
    }[kind](made.get("config", {}), summary)
    return f"{text} tcgn-mil {made.get('tcgn_mil')}, Python {made.get('python')}, torch {_version(made, 'torch')}."


def _version(made: Mapping[str, Any], package: str) -> str:
    return str(made.get("packages", {}).get(package, "not stated"))


def _finetune(config: Mapping[str, Any], summary: Mapping[str, Any]) -> str:
    model, training = config["model"], config["training"]
    groups = (
        "tissue source sites kept together"
        if config["group_by"] == "site"
        else "patients kept together"
    )
    refits = config.get("refits", 0)
    p = (
        f"p-values were the share of {refits} refits on labels permuted over patients, pooled over genes, that reached"
        " a gene's combined z"
        if refits
        else "p-values took the null's standard deviation as the square root of 2 (approximate)"
    )
    return (
        f"Expression of {summary['genes']} genes ({summary['unit']}) was predicted from features of encoder"
        f" {summary['encoder']} by {_POOLINGS[model['pooling']]} ({model['form']} head, {model['embedding']} values a"
        f" tile, dropout {model['dropout']}), trained for at most {training['epochs']} epochs with loss"
        f" {training['loss']}, batches of {training['batch_size']} patients, {training['optimizer']} at a peak rate of"
        f" {training['lr']:g} and weight decay {training['weight_decay']:g}, stopped early on a validation fold."
        f" Cross-validation had {summary['folds']} folds over {summary['patients']} patients, {groups}, seed"
        f" {config['seed']}; genes and scales were taken from training patients only. Pearson r was computed within"
        f" test folds and combined by Fisher z weighted by n - 3; intervals came from {config['replicates']}"
        f" resamplings of patients within folds; {p}; Benjamini-Hochberg over genes."
    )


def _predict(config: Mapping[str, Any], summary: Mapping[str, Any]) -> str:
    return (
        f"{summary['patients']} patients ({summary['slides']} slides, {summary['tiles']} tiles) were predicted in"
        f" {summary['unit']}: those of the training cohort by the fold model that had not seen them, new ones by the"
        " mean of all fold models; interval bounds are conformal."
    )


def _associate(config: Mapping[str, Any], summary: Mapping[str, Any]) -> str:
    adjusted = ", ".join(config.get("adjust_for") or ()) or "nothing"
    return (
        "Signature scores were means over their genes of the gene's rank among patients and were refused where fewer"
        f" than half of the genes were there; {config['replicates']} resamplings of patients gave intervals; partial"
        f" correlations were adjusted for {adjusted}; Benjamini-Hochberg within each table; enrichment was judged by"
        " the hypergeometric distribution against the panel and by preranked GSEA."
    )


def _survive(config: Mapping[str, Any], summary: Mapping[str, Any]) -> str:
    risk = config["risk"]
    covariates = ", ".join(config.get("covariates") or ()) or "none"
    return (
        f"Risk of {summary['endpoint']} ({summary['patients']} patients, {summary['events']} events) was predicted out"
        f" of fold by Cox regression with an elastic net on {risk['features']}, its penalty chosen by"
        f" {risk['inner_folds']} inner folds; covariates: {covariates}. Harrell's C counts pairs within folds only,"
        f" with {config['replicates']} resamplings of patients; groups were cut at the training median."
    )


def _spots(config: Mapping[str, Any], summary: Mapping[str, Any]) -> str:
    training = config["training"]
    return (
        f"{config['model']} was trained on spots ({config['normalisation']} normalisation, loss {training['loss']}, at"
        f" most {training['epochs']} epochs, peak rate {training['lr']:g}) and cross-validated by {config['group_by']};"
        " r was computed within sections after taking sequencing depth out of truth and prediction, p-values allow for"
        " spatial autocorrelation."
    )
