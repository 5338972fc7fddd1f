"""Cross-validate the spot network beside its baselines (the verb ``tcgn-mil spot-cv``).

Each fold trains the network, a small network and an untrained one. It predicts its test sections
once and leaves a folder with everything. Afterwards the test sections of all folds are combined.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from tcgn_mil.checkpoints.published import find_checkpoint
from tcgn_mil.config import as_plain
from tcgn_mil.errors import InputError
from tcgn_mil.experiments.runs.run_folder import finish_run
from tcgn_mil.experiments.spot_level.combine import RunResults, combine_sections
from tcgn_mil.experiments.spot_level.config import SMALL_NETWORK, SpotConfig
from tcgn_mil.experiments.spot_level.evaluate import MODEL, SectionResults
from tcgn_mil.experiments.spot_level.figures import draw_cross_validation
from tcgn_mil.experiments.spot_level.inputs.folds import (
    ON_TEST,
    SectionSplit,
    read_spot_folds,
    spot_folds,
)
from tcgn_mil.experiments.spot_level.inputs.network import Network
from tcgn_mil.experiments.spot_level.inputs.study import (
    SpotStudy,
    load_sections,
    make_study,
    patients_of,
)
from tcgn_mil.experiments.spot_level.pretrain import begin_or_finished, write_study
from tcgn_mil.experiments.spot_level.results import check_map_genes, evaluate
from tcgn_mil.experiments.spot_level.summary import SpotCrossValidation
from tcgn_mil.experiments.spot_level.train_network import (
    TrainedNetwork,
    follow_network,
    train_network,
)
from tcgn_mil.file_formats.csv_table import read_own_csv
from tcgn_mil.io.atomic import write_csv
from tcgn_mil.models.encoders.sources import parse_source
from tcgn_mil.progress import Progress
from tcgn_mil.training.agreement import from_first, in_all, join_processes
from tcgn_mil.types.processes import Processes

KIND = "spot-cv"
SMALL, UNTRAINED = "small_network", "untrained"


class FoldResults(NamedTuple):
    """Results of one fold.

    Attributes
    ----------
    sections
        Results by test section.
    curves
        Epochs of each network that was trained, by a name for the legend.
    """

    sections: dict[str, SectionResults]
    curves: dict[str, pd.DataFrame]


def run(config: SpotConfig, out_dir: str | Path) -> dict[str, Any]:
    """Cross-validate, and write tables, figures and a summary.

    Writes ``folds.csv``, and for each fold a folder with its networks, tables, predictions and
    maps. Over all sections it writes ``summary.csv`` (one row for each predictor), ``sections.csv``
    (one row for each section and predictor), ``detection.csv``, ``genes.csv``,
    ``predictable_genes.csv`` and figures. A run that is finished is not repeated. A run that was
    interrupted continues at the epoch where it stopped.

    Several processes of torchrun share the training of the networks. The first one alone writes,
    and does all that is not training by gradient descent. The others wait for it.

    Parameters
    ----------
    config
        Sections, folds, network and training; every section of a fold's test part is tested.
    out_dir
        Folder of the run, with a folder for each fold inside.

    Returns
    -------
    dict
        Summary with the headline and the baselines (:meth:`SpotCrossValidation.summary`).

    Raises
    ------
    InputError
        If folds, sections or genes cannot be used, or if the folder holds a run of another config;
        the error names the keys that differ. Also if the processes of torchrun have different
        settings or inputs.
    """
    if config.val_sections or config.test_sections:
        raise InputError(
            "config keys val_sections and test_sections are for pretrain, but spot-cv tests every"
            " section",
            fix="remove both keys; describe the folds with --folds if you need certain ones",
        )
    join_processes(config.training, {"verb": KIND, **as_plain(config)})
    folder = Path(out_dir)
    if (done := from_first(lambda: begin_or_finished(folder, KIND, config))) is not None:
        return done
    studies, patient_of = in_all(lambda: _read_folds(config))
    summary: dict[str, Any] = {}
    if Processes.launched().is_first:
        summary = _train(config, studies, patient_of, folder)
    else:
        for study in studies:
            for planned in planned_networks(study, _folder_of(study, folder)):
                follow_network(study, planned.network, planned.folder, seed=planned.seed)
    # The others end when the first one has written everything.
    return from_first(lambda: summary)


def _read_folds(config: SpotConfig) -> tuple[list[SpotStudy], dict[str, str]]:
    """Return the folds, and the patient of each section.

    All folds are prepared before the first is trained, so that an impossible fold is reported at
    once and not after hours.
    """
    sections = load_sections(config)
    patient_of = patients_of(sections)
    studies = [
        make_study(config, fold, sections)
        for fold in Progress(
            make_splits(config, patient_of), desc="folds", unit="fold", leave=False
        )
    ]
    check_map_genes(studies[0])
    return studies, patient_of


def _train(
    config: SpotConfig, studies: Sequence[SpotStudy], patient_of: Mapping[str, str], out_dir: Path
) -> dict[str, Any]:
    """Train and evaluate all folds in the first process, and write the results."""
    folds = [study.split for study in studies]
    _write_folds(folds, out_dir)
    evaluated = {study.split.name: run_fold(study, _folder_of(study, out_dir)) for study in studies}
    results = {name: part for fold in evaluated.values() for name, part in fold.sections.items()}
    combined = combine_sections(results, folds=len(folds), patient_of=patient_of)
    write_tables(combined, results, out_dir)
    draw_cross_validation(
        combined, results, {name: fold.curves for name, fold in evaluated.items()}, out_dir
    )
    panel_sizes = [len(study.panel) for study in studies]
    finished = SpotCrossValidation(config, folds, panel_sizes, combined, results)
    return finish_run(out_dir, finished.summary())


def _folder_of(study: SpotStudy, out_dir: Path) -> Path:
    return out_dir / f"fold_{study.split.name}"


def _write_folds(folds: Sequence[SectionSplit], out_dir: Path) -> None:
    """Write the folds, unless an interrupted run in this folder had others.

    Its finished networks would be reused, and they were trained on other sections.
    """
    table, path = (
        pd.concat([fold.as_table() for fold in folds], ignore_index=True),
        out_dir / "folds.csv",
    )
    fix = "remove the folder, or choose another --out"
    if path.is_file() and not read_own_csv(
        path, what="the folds of a run", fix=fix, dtype=str, keep_default_na=False
    ).equals(table.astype(str)):
        raise InputError(
            "differs from the folds of this run",
            path=path,
            fix="choose another --out folder: the folds or the spots changed after the run began",
        )
    write_csv(path, table)


def make_splits(config: SpotConfig, patient_of: Mapping[str, str]) -> list[SectionSplit]:
    """Return the folds of a run: those of its file, or those that the config describes."""
    if config.folds is None:
        return spot_folds(
            patient_of,
            group_by=config.group_by,
            n_folds=config.n_folds,
            select_on_test=config.select_on_test,
        )
    folds = read_spot_folds(config.folds, patient_of, group_by=config.group_by)
    if not config.select_on_test:
        return folds
    # The test part takes the place of the validation part, whose sections train instead.
    return [
        replace(
            fold,
            train=tuple(dict.fromkeys((*fold.train, *fold.val))),
            val=fold.test,
            validation=ON_TEST,
        )
        for fold in folds
    ]


def run_fold(study: SpotStudy, folder: Path) -> FoldResults:
    """Train the networks of a fold and evaluate them on its test sections."""
    folder.mkdir(parents=True, exist_ok=True)
    write_study(study, folder)
    networks = train_networks(study, folder)
    results = evaluate(study, networks, study.split.test, folder)
    curves = {
        f"{name} (seed {item.info.provenance.get('seed', 0)})": item.epochs
        for name, trained in networks.items()
        for item in trained
        if len(item.epochs)
    }
    return FoldResults(results, curves)


class PlannedNetwork(NamedTuple):
    """A network of a fold that is to be trained.

    Attributes
    ----------
    predictor
        Name in the tables.
    network
        Architecture and initialisation.
    folder
        Its folder.
    seed
        Its seed.
    description
        Words for the progress bar.
    """

    predictor: str
    network: Network
    folder: Path
    seed: int
    description: str = ""


def planned_networks(study: SpotStudy, folder: Path) -> list[PlannedNetwork]:
    """Return the networks of a fold, in the order of training.

    These are those of the run, the small ones, and the run's own network untrained, with a ridge
    regression as its last layer.
    """
    config, name = study.config, study.split.name
    seeds = [config.training.seed + member for member in range(config.members)]
    planned = [
        PlannedNetwork(
            MODEL,
            Network.of(config),
            folder / f"model_{seed}",
            seed,
            f"fold {name}, {config.model}, seed {seed}",
        )
        for seed in seeds
    ]
    if not config.baselines:
        return planned
    # The small network has as many members as the run's own, so that averaging favours neither.
    if config.model != SMALL_NETWORK:
        planned += [
            PlannedNetwork(
                SMALL,
                Network.small(),
                folder / f"{SMALL}_{seed}",
                seed,
                f"fold {name}, small network, seed {seed}",
            )
            for seed in seeds
        ]
    # The untrained network shows what its architecture alone gives: random weights, no checkpoint.
    if (untrained := untrained_network(config)) is not None:
        planned.append(PlannedNetwork(UNTRAINED, untrained, folder / UNTRAINED, seeds[0]))
    return planned


def train_networks(study: SpotStudy, folder: Path) -> dict[str, list[TrainedNetwork]]:
    """Train the networks of a fold (:func:`planned_networks`), and return them by predictor."""
    networks: dict[str, list[TrainedNetwork]] = {}
    for planned in planned_networks(study, folder):
        trained = train_network(
            study,
            planned.network,
            planned.folder,
            seed=planned.seed,
            description=planned.description,
        )
        networks.setdefault(planned.predictor, []).append(trained)
    return networks


def untrained_network(config: SpotConfig) -> Network | None:
    """Return the network of a run with random weights; None for a checkpoint of this package.

    A file of weights is replaced by the model that it belongs to.
    """
    if find_checkpoint(config.model) is not None:
        return None
    named = parse_source(config.model, config.encoder_options.model)
    options = replace(config.encoder_options, pretrained=False, untrained=True)
    source = config.model
    if named.file is not None:
        source, options = str(options.model), replace(options, model=None)
    return Network(source, config.input_px, train="none", options=options)


def write_tables(
    combined: RunResults, results: Mapping[str, SectionResults], out_dir: Path
) -> None:
    """Write the tables over all sections."""
    write_csv(out_dir / "summary.csv", combined.summary)
    write_csv(out_dir / "sections.csv", pd.concat([part.summary for part in results.values()]))
    write_csv(out_dir / "detection.csv", pd.concat([part.detection for part in results.values()]))
    write_csv(out_dir / "genes.csv", combined.genes)
    if "predictable" in combined.genes:
        chosen = combined.genes[combined.genes["predictable"]]
        write_csv(
            out_dir / "predictable_genes.csv",
            chosen.sort_values(f"depth_adjusted_r_{MODEL}", ascending=False),
        )
