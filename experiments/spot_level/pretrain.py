"""Train the spot encoder once: fit, choose the epoch on validation sections, test once.

This is the verb ``tcgn-mil pretrain``. Its encoder goes into the following stages.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd

from tcgn_mil.config import as_plain
from tcgn_mil.errors import InputError
from tcgn_mil.experiments.runs import figures
from tcgn_mil.experiments.runs.inputs import record_inputs
from tcgn_mil.experiments.runs.run_folder import begin_run, finish_run, finished_summary
from tcgn_mil.experiments.spot_level.config import SpotConfig
from tcgn_mil.experiments.spot_level.evaluate import MODEL
from tcgn_mil.experiments.spot_level.figures import epoch_rows
from tcgn_mil.experiments.spot_level.inputs.files import input_files
from tcgn_mil.experiments.spot_level.inputs.folds import ON_TEST, SectionSplit, split_sections
from tcgn_mil.experiments.spot_level.inputs.network import Network
from tcgn_mil.experiments.spot_level.inputs.study import (
    SpotStudy,
    load_sections,
    make_study,
    patients_of,
)
from tcgn_mil.experiments.spot_level.results import check_map_genes, evaluate
from tcgn_mil.experiments.spot_level.train_network import follow_network, train_network
from tcgn_mil.io.atomic import plain_rows, write_csv
from tcgn_mil.training.agreement import from_first, in_all, join_processes
from tcgn_mil.types.processes import Processes

KIND = "pretrain"


def run(config: SpotConfig, out_dir: str | Path) -> dict[str, Any]:
    """Train an encoder, choose its epoch on validation sections and test it once.

    Writes ``encoder.safetensors`` (and a JSON file that describes it), ``history.csv``,
    ``folds.csv``, ``dropped_spots.csv`` and ``results.csv``. For each test section it also writes
    the files that :func:`tcgn_mil.experiments.spot_level.results.write_section` lists; without test
    sections, it does so for the validation sections. A run that is finished is not repeated, and a
    run that was interrupted continues where it stopped.

    Several processes of torchrun share the training. The first one alone writes and tests.

    Parameters
    ----------
    config
        Sections, genes, network and training.
    out_dir
        Folder of the encoder.

    Returns
    -------
    dict
        Results on the test sections and what led to them, as in ``summary.json``.

    Raises
    ------
    InputError
        If the config sets a key that only ``spot-cv`` uses, if sections or genes cannot be used, if
        the folder holds a run of another config, or if the processes of torchrun have different
        settings or inputs.
    """
    # A key that would have no effect is refused, so that nobody believes in its effect.
    default = SpotConfig()
    for key in ("folds", "members", "n_folds", "group_by", "protocol"):
        if getattr(config, key) != getattr(default, key):
            raise InputError(
                f"config key {key} is for spot-cv, but pretrain trains a single encoder",
                fix=f"remove {key}, or use tcgn-mil spot-cv",
            )
    join_processes(config.training, {"verb": KIND, **as_plain(config)})
    folder = Path(out_dir)
    if (done := from_first(lambda: begin_or_finished(folder, KIND, config))) is not None:
        return done
    study = in_all(lambda: _study_of(config))
    summary: dict[str, Any] = {}
    if Processes.launched().is_first:
        summary = _train(study, folder)
    else:
        follow_network(study, Network.of(config), folder, seed=config.training.seed)
    # The others end when the first one has written everything.
    return from_first(lambda: summary)


def _train(study: SpotStudy, out_dir: Path) -> dict[str, Any]:
    """Train and evaluate in the first process, and write the results."""
    config = study.config
    split = study.split
    write_csv(out_dir / "folds.csv", study.split.as_table())
    write_study(study, out_dir)
    trained = train_network(study, Network.of(config), out_dir, seed=config.training.seed)
    if len(trained.epochs):
        figures.training_curves(
            {config.model: epoch_rows(trained.epochs)},
            out_dir / "curves.png",
            score="depth-adjusted r",
        )
    # A validation block has a name of its own, so study.val is used there and not split.val.
    judged = split.test or study.val
    results = evaluate(study, {MODEL: [trained]}, judged, out_dir) if judged else {}
    frame = pd.concat([part.summary for part in results.values()]) if results else pd.DataFrame()
    if results:
        write_csv(out_dir / "results.csv", frame)
        write_csv(
            out_dir / "detection.csv", pd.concat([part.detection for part in results.values()])
        )
    return finish_run(
        out_dir,
        {
            "model": config.model,
            "genes": len(study.panel),
            "spots": {
                part: sum(len(study.sections[n].rows) for n in getattr(split, part))
                for part in ("train", "val", "test")
            },
            "validation": split.validation if study.val else "none: it trained as well",
            "patient_leakage": list(split.leaking),
            "results_on": "test" if split.test else "validation",
            "results": plain_rows(frame),
        },
    )


def _study_of(config: SpotConfig) -> SpotStudy:
    sections = load_sections(config)
    split = split_sections(patients_of(sections), config.val_sections, config.test_sections)
    if config.select_on_test:
        split = _select_on_test(split)
    study = make_study(config, split, sections)
    check_map_genes(study)
    return study


def begin_or_finished(folder: Path, kind: str, config: SpotConfig) -> dict[str, Any] | None:
    """Begin or continue a spot-level run; return the summary if it is finished.

    Raises
    ------
    InputError
        If the folder holds a run of another kind or config, or on other inputs.
    """
    begin_run(folder, kind, config)
    done = finished_summary(folder)
    record_inputs(folder, input_files(config), finished=done is not None)
    return done


def write_study(study: SpotStudy, out_dir: Path) -> None:
    """List what was left out: spots, and panel genes that sections did not measure."""
    used = [
        section
        for name, section in study.sections.items()
        if name in {*study.split.train_and_val, *study.split.test}
    ]
    write_csv(out_dir / "dropped_spots.csv", pd.concat([section.dropped for section in used]))
    if len(study.missing):
        write_csv(out_dir / "missing_genes.csv", study.missing)


def _select_on_test(split: SectionSplit) -> SectionSplit:
    """Return the split with the test part as its validation part.

    The sections that were set aside for validation train instead.
    """

    if not split.test:
        raise InputError(
            "select_on_test is set, but no test section is named",
            fix="name one with --test-section, or use tcgn-mil spot-cv",
        )
    train = tuple(dict.fromkeys((*split.train, *split.val)))
    return replace(split, train=train, val=split.test, validation=ON_TEST)
