"""Judge a frozen encoder by the recipe of HEST-Bench (Jaume et al. 2024, NeurIPS).

The result can be put beside the numbers of that benchmark. The recipe is:

- Features of the frozen encoder are standardised and reduced to 256 principal components, both
  fitted on the training spots.
- Targets are log1p of the raw counts of 50 genes. These are the most variable genes among those
  seen in at least a tenth of the spots of all sections, tested ones included, as in HEST-Bench. A
  file of genes can be given instead.
- Ridge regression without an intercept has the penalty 100 / (components x genes).
- Pearson r of each gene is computed over all test spots of a fold together. Its mean over genes is
  the result of the fold; the mean and standard deviation over folds are reported.

There are two departures. The folds are those of ``spot-cv``, and spots with fewer counts than
``min_umi`` are left out. Raw counts depend on sequencing depth, so each of these numbers contains
it; the depth-adjusted r is therefore given beside them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from tcgn_mil.checkpoints.starting import check_started, start_from
from tcgn_mil.errors import InputError
from tcgn_mil.experiments.runs.inputs import record_inputs
from tcgn_mil.experiments.runs.run_folder import begin_run, finish_run, finished_summary
from tcgn_mil.experiments.spot_level.config import SpotConfig
from tcgn_mil.experiments.spot_level.cross_validate import make_splits
from tcgn_mil.experiments.spot_level.inputs.files import input_files
from tcgn_mil.experiments.spot_level.inputs.folds import SectionSplit
from tcgn_mil.experiments.spot_level.inputs.sections import SpotSection
from tcgn_mil.experiments.spot_level.inputs.study import load_sections, patients_of
from tcgn_mil.experiments.spot_level.inputs.targets import panel_counts, usable_panel
from tcgn_mil.inference.spots import spot_features
from tcgn_mil.io.atomic import plain_rows, write_csv
from tcgn_mil.io.gene_list import read_gene_list
from tcgn_mil.progress import Progress
from tcgn_mil.statistics.gene_metrics import pearson
from tcgn_mil.statistics.sequencing_depth import depth_adjusted_pearson
from tcgn_mil.targets.spots import detection
from tcgn_mil.types.genes import GenePanel
from tcgn_mil.types.processes import Processes

KIND = "spot-cv-hest"
# Values of HEST-Bench.
COMPONENTS, GENES, MIN_DETECTION = 256, 50, 0.1
_PENALTY = 100.0


def run(config: SpotConfig, out_dir: str | Path) -> dict[str, Any]:
    """Judge the frozen encoder that the config names.

    Writes ``genes.csv`` (fold, gene, r and depth-adjusted r), ``folds.csv`` and ``summary.json``.

    Parameters
    ----------
    config
        Sections, folds and encoder. Keys that the recipe fixes keep their defaults.
    out_dir
        Folder for tables and summary.

    Returns
    -------
    dict
        Mean r of each fold, and its mean and standard deviation over folds.

    Raises
    ------
    InputError
        If the config sets keys that this recipe does not use, if genes or folds cannot be used, or
        if torchrun started several processes.
    """
    if Processes.launched().count > 1:
        raise InputError(
            "torchrun started several processes, but protocol=hest trains no network that they"
            " could share",
            fix="start it without torchrun",
        )
    _check_settings(config)
    out_dir = begin_run(out_dir, KIND, config)
    done = finished_summary(out_dir)
    record_inputs(out_dir, input_files(config), finished=done is not None)
    if done is not None:
        return done
    sections = load_sections(config)
    folds = make_splits(config, patients_of(sections))
    panel = (
        read_gene_list(config.panel.file)
        if config.panel.file is not None
        else variable_genes(sections)
    )
    # One panel serves all folds, so it has to be usable in all sections.
    panel, missing = usable_panel(panel, sections, config.panel.missing)
    if len(missing):
        write_csv(out_dir / "missing_genes.csv", missing)
    # Features and targets do not depend on the fold, so they are computed once.
    targets = {name: _log_counts(section, panel) for name, section in sections.items()}
    features = _features(config, sections)
    table = pd.concat([_fold(fold, panel, sections, targets, features) for fold in folds])
    write_csv(out_dir / "folds.csv", pd.concat([fold.as_table() for fold in folds]))
    write_csv(out_dir / "genes.csv", table)
    means = table.groupby("fold", sort=False)[["r", "depth_adjusted_r"]].mean()
    rows = pd.concat(
        [
            means.reset_index(),
            pd.DataFrame(
                [
                    {"fold": "mean", **means.mean()},
                    {"fold": "sd", **means.std(ddof=0)},
                ]
            ),
        ]
    )
    r, adjusted = means["r"], means["depth_adjusted_r"]
    sentence = (
        f"{config.model}, recipe of HEST-Bench, {len(folds)} folds, {len(panel)} genes: mean r"
        f" {r.mean():.3f} ± {r.std(ddof=0):.3f} (depth-adjusted {adjusted.mean():.3f})"
    )
    return finish_run(
        out_dir,
        {
            "sentence": sentence,
            "model": config.model,
            "genes": list(panel.genes),
            "genes_na": int(table["r"].isna().sum()),
            "labels": _labels(config, folds),
            "results": plain_rows(rows),
        },
    )


def _check_settings(config: SpotConfig) -> None:
    """Check that no key is set that would have no effect."""
    default = SpotConfig()
    names = (
        "val_sections",
        "test_sections",
        "select_on_test",
        "members",
        "train",
        "target",
        "normalisation",
        "trunk",
        "map_genes",
        "views",
    )
    if unused := [name for name in names if getattr(config, name) != getattr(default, name)]:
        raise InputError(
            f"protocol=hest has no use for {', '.join(unused)}",
            fix="remove these keys from the config",
        )


def variable_genes(sections: Mapping[str, SpotSection], *, count: int = GENES) -> GenePanel:
    """Choose the genes whose log1p counts vary most.

    Parameters
    ----------
    sections
        Sections to choose on. Only genes that all of them measured can be chosen.
    count
        Number of genes.

    Returns
    -------
    GenePanel
        The chosen genes in alphabetical order.

    Raises
    ------
    InputError
        If fewer genes than `count` are measured in every section, or seen in a tenth of the spots.
    """
    shared = sorted(set.intersection(*(set(section.genes) for section in sections.values())))
    if len(shared) < count:
        raise InputError(
            f"the sections have {len(shared)} genes in common, but the recipe needs {count}",
            fix="name the genes in a file and give it as panel.file",
        )
    panel = GenePanel(tuple(shared))
    counted = [panel_counts(section, panel) for section in sections.values()]
    spots = np.array([len(section.rows) for section in sections.values()])
    seen = np.average(
        [detection(counts, columns) for counts, columns in counted], axis=0, weights=spots
    )
    values = np.concatenate([_log1p(counts[:, columns]) for counts, columns in counted])
    if (frequent := int((seen >= MIN_DETECTION).sum())) < count:
        raise InputError(
            f"{frequent} genes are seen in at least a tenth of the spots, but the recipe needs"
            f" {count}",
            fix="name the genes in a file and give it as panel.file",
        )
    # A variance of -1 puts genes that are seen too rarely behind all others.
    variance = np.where(seen >= MIN_DETECTION, values.var(axis=0), -1)
    best = np.argsort(-variance, kind="stable")[:count]
    return GenePanel(tuple(sorted(shared[index] for index in best)))


def hest_ridge(
    train_features: NDArray[np.floating],
    train_targets: NDArray[np.floating],
    features: NDArray[np.floating],
) -> NDArray[np.float32]:
    """Fit the recipe's regression and predict.

    Parameters
    ----------
    train_features
        (S, D) features of the training spots.
    train_targets
        (S, G) targets of the training spots.
    features
        (S', D) features of the spots to predict.

    Returns
    -------
    ndarray
        (S', G) float32 predictions.
    """
    from sklearn.decomposition import PCA
    from sklearn.linear_model import Ridge
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    # PCA cannot have more components than there are spots or features.
    components = min(COMPONENTS, *train_features.shape)
    ridge = Ridge(
        alpha=_PENALTY / (components * train_targets.shape[1]),
        fit_intercept=False,
        solver="lsqr",
        max_iter=1000,
    )
    model = make_pipeline(StandardScaler(), PCA(components, random_state=0), ridge)
    model.fit(train_features, train_targets)
    return np.asarray(model.predict(features), dtype=np.float32)


def _features(
    config: SpotConfig, sections: Mapping[str, SpotSection]
) -> dict[str, NDArray[np.float32]]:
    """Return the features (S, D) of each section by the encoder as it is before training."""
    import torch

    # A network without given weights is random; the seed makes the result repeatable.
    torch.manual_seed(config.training.seed)
    started = start_from(
        config.model,
        None,
        checkpoint=config.checkpoint,
        input_px=config.input_px,
        **config.encoder_options.as_arguments(),
    )
    for section in sections.values():  # all have one size
        check_started(started, section.patch, allow=config.allow_other_size)
    model, needs = started.model.eval(), started.input_spec
    return {
        name: spot_features(
            model, section.patches(), batch_size=config.training.batch_size, input_spec=needs
        )
        for name, section in Progress(sections.items(), desc="features", unit="section")
    }


def _fold(
    fold: SectionSplit,
    panel: GenePanel,
    sections: Mapping[str, SpotSection],
    targets: Mapping[str, NDArray[np.float32]],
    features: Mapping[str, NDArray[np.float32]],
) -> pd.DataFrame:
    """Evaluate one fold: a row for each gene.

    r is over all test spots of the fold; the depth-adjusted r is a mean over its test sections.
    """
    # The recipe selects nothing, so validation sections train as well.
    train = [name for name in (*fold.train, *fold.val) if name not in fold.test]
    train = list(dict.fromkeys(train))
    fitted = [np.concatenate([part[name] for name in train]) for part in (features, targets)]
    predicted = {name: hest_ridge(fitted[0], fitted[1], features[name]) for name in fold.test}
    truth = np.concatenate([targets[name] for name in fold.test])
    adjusted = [
        # Depth is regressed out within each section, as everywhere else.
        depth_adjusted_pearson(targets[name], predicted[name], np.log(sections[name].totals))
        for name in fold.test
    ]
    return pd.DataFrame(
        {
            "fold": fold.name,
            "gene": panel.genes,
            "r": pearson(truth, np.concatenate([*predicted.values()])),
            "depth_adjusted_r": np.mean(adjusted, axis=0),
        }
    )


def _log_counts(section: SpotSection, panel: GenePanel) -> NDArray[np.float32]:
    counts, columns = panel_counts(section, panel)
    return _log1p(counts[:, columns])


def _log1p(counts: Any) -> NDArray[np.float32]:
    return np.log1p(counts.toarray() if hasattr(counts, "toarray") else counts).astype(np.float32)


def _labels(config: SpotConfig, folds: Sequence[SectionSplit]) -> list[str]:
    labels = [
        "recipe of HEST-Bench: targets are raw counts, so r contains sequencing depth; the spots of"
        " all test sections of a fold are pooled"
    ]
    if config.panel.file is None:
        labels.append("genes were chosen on all sections, tested ones included, as in HEST-Bench")
    if config.encoder_options.untrained:
        labels.append("the encoder is untrained: its weights are random")
    if leaking := sorted({name for fold in folds for name in fold.leaking}):
        labels.append(f"patient leakage: {', '.join(leaking)} tested on and also trained on")
    return labels
