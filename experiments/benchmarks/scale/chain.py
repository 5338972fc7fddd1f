"""Measure every stage from slides to a report, for cohorts of several sizes.

The slides are small synthetic ones, about 50 tiles each. Each stage is the command as a user calls
it, in a process of its own, so that its time has a part that does not depend on the cohort: the
start of Python and its libraries. The cost of a slide is therefore taken from the difference
between one cohort and the next larger one.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from tqdm import tqdm

from tcgn_mil.experiments.benchmarks.preprocessing import picture
from tcgn_mil.experiments.benchmarks.scale.process_cost import Cost, cost_of, verb
from tcgn_mil.io.atomic import write_csv
from tcgn_mil.io.pyramid import write_pyramid

STAGES = ("tile", "encode", "bulk", "finetune", "predict", "report")
SIDE_UM, SLIDE_MPP, GENES = 600.0, 0.5, 500
_STEP_PX = 37  # no multiple of the tile, so that slides made from one picture differ


def make_cohort(folder: Path, count: int, *, genes: int = GENES) -> None:
    """Write slides of a cohort and a table of their expression, as far as they are missing.

    All slides are the same picture of tissue, moved on in a circle, because drawing takes much
    longer than anything that is measured.

    Parameters
    ----------
    folder
        Receives ``slides/`` and ``expression.csv``.
    count
        Number of slides, each of a patient of its own.
    genes
        Number of genes, whose values are random.
    """
    slides = folder / "slides"
    slides.mkdir(parents=True, exist_ok=True)
    names = [f"TCGA-{number % 36:02d}-{number:04d}" for number in range(count)]
    paths = [slides / f"{name}-01Z-00-DX1.tiff" for name in names]
    todo = [number for number, path in enumerate(paths) if not path.is_file()]
    tissue = picture((SIDE_UM, SIDE_UM), SLIDE_MPP) if todo else None
    for number in tqdm(todo, desc="slides", unit="slide"):
        assert tissue is not None
        moved = np.roll(tissue, number * _STEP_PX, axis=number % 2)
        write_pyramid(paths[number], np.ascontiguousarray(moved), mpp=SLIDE_MPP)
    tpm = np.random.default_rng(0).lognormal(0, 2, (count, genes))
    tpm *= 1e6 / tpm.sum(axis=1, keepdims=True)
    table = pd.DataFrame(tpm, columns=[f"GENE{number}" for number in range(genes)])
    table.insert(0, "sample", [f"{name}-01A" for name in names])
    write_csv(folder / "expression.csv", table, digits=4)


def stage_commands(folder: Path, encoder: str) -> dict[str, list[str]]:
    """Return the command of each stage for the cohort in a folder."""
    slides, tiles, features = folder / "slides", folder / "tiles", folder / "features"
    cohort, model = folder / "cohort.h5ad", folder / "slide-model"
    given = ("--encoder", encoder, "--untrained", "--device", "cpu")
    # Few epochs, all of which are made, so that early stopping does not decide the time.
    effort = ("training.epochs=3", "training.patience=3", "n_folds=3", "replicates=50")
    sets = [part for setting in effort for part in ("--set", setting)]
    predictions = folder / "predictions"
    return {
        "tile": verb("tile", slides, "--out", tiles),
        "encode": verb("encode", slides, "--tiles", tiles, *given, "--out", features),
        "bulk": verb(
            "bulk", folder / "expression.csv", "--unit", "tpm", "--slides", slides, "--out", cohort
        ),
        "finetune": verb(
            "finetune", "--cohort", cohort, "--features", features, "--out", model, *sets
        ),
        "predict": verb(
            "predict", "--model", model, "--features", features, "--out", predictions, "--no-maps"
        ),
        "report": verb("report", model, predictions, "--out", folder / "report.html"),
    }


def measure_chain(
    folder: Path, encoder: str, sizes: list[int], stages: Sequence[str] = STAGES
) -> dict[str, Any]:
    """Return the cost of each stage for each size of the cohort, and of one further slide.

    Parameters
    ----------
    folder
        Folder for the cohorts. Stages that were finished there before would take no time, so that
        it should be empty.
    encoder
        Encoder, whose weights stay random.
    sizes
        Numbers of slides, ascending.
    stages
        Stages to run. Each reads what the earlier ones wrote.
    """
    costs: dict[str, dict[str, Any]] = {stage: {} for stage in STAGES if stage in stages}
    for count in sizes:
        cohort = folder / f"cohort{count}"
        make_cohort(cohort, count)
        commands = stage_commands(cohort, encoder)
        for stage in tqdm(costs, desc=f"{count} slides", unit="stage"):
            cost = cost_of(commands[stage], cohort / f"{stage}.log")
            costs[stage][str(count)] = cost._asdict()
    return {stage: {"sizes": by_size, **growth(by_size)} for stage, by_size in costs.items()}


def growth(by_size: dict[str, dict[str, float]]) -> dict[str, Any]:
    """Return CPU seconds of one further slide between sizes, and the ratio of the peaks.

    Parameters
    ----------
    by_size
        Fields of :class:`.Cost` by number of slides, ascending.

    Examples
    --------
    >>> growth({"10": dict(wall_s=9, cpu_s=7, peak_mib=100), "40": dict(wall_s=9, cpu_s=10,
    ...     peak_mib=110)})
    {'cpu_s_of_a_slide': {'10 to 40': 0.1}, 'peak_ratio': 1.1}
    """
    sizes = {int(count): Cost(**cost) for count, cost in by_size.items()}
    marginal = {
        f"{small} to {large}": (sizes[large].cpu_s - sizes[small].cpu_s) / (large - small)
        for small, large in pairwise(sizes)
    }
    least, most = min(sizes), max(sizes)
    return {
        "cpu_s_of_a_slide": marginal,
        "peak_ratio": sizes[most].peak_mib / sizes[least].peak_mib,
    }
