"""Measure how often slides of another organ, stain, scanner or scale are flagged.

    python -m tcgn_mil.experiments.benchmarks.out_of_distribution --data data \\
        --encoder encoder.safetensors timm:resnet10t --out measured

`--data` is a folder with the public sets ``her2st``, ``slides``, ``tcga_tiles`` and ``tcga_hif``;
sets that are not there are left out. In every setting some patients are kept out of the training
set, and the share of them that is flagged is the rate of false alarms, which should be 5 %. Beside
it stands the score that this package had before: the distance of the mean features, flagged above
the 99th percentile of the training patients, or at 5 % false alarms as the score is now. Shares are
means over random choices of the training patients. Encoded tiles are kept in `--out`, for the next
time.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from tcgn_mil import plotting
from tcgn_mil.experiments.benchmarks.out_of_distribution import shifted_tiles
from tcgn_mil.experiments.benchmarks.out_of_distribution.mean_distance import OldScore
from tcgn_mil.experiments.benchmarks.out_of_distribution.shifted_tiles import (
    HER2ST_KINDS,
    KINDS,
    TileKind,
)
from tcgn_mil.inference.out_of_distribution import OUT, fit_reference, shuffled
from tcgn_mil.inference.tile_encoder import TileEncoder, open_encoder
from tcgn_mil.io.atomic import write_csv
from tcgn_mil.preprocessing.slides.table import SlideEntry, find_slides
from tcgn_mil.settings.model_names import TIMM_PREFIX

SEEDS, TRAINING_SHARE = 5, 0.7
HELD = "held out (false alarms)"
SLIDE_FEATURES = "slide features"
CANCERS = ("brca", "luad", "lusc")
# Columns of the tables that describe the slide or the patient, and are no feature of the image.
_NO_FEATURES = {"cohort", "bcr_patient_barcode", "pathai_slide_id", "pathai_split", "HRD_Score"}
_SYNTHETIC, _SYNTHETIC_TRAINING = 100, (60, 24)
_PART_UM = 900.0

Bag = NDArray[np.floating]
Sets = dict[str, list[Bag]]


class Flagged(NamedTuple):
    """Shares of a set of patients that are flagged, and its median score.

    `before` is by the rule of earlier versions, and `before_5` by their distance at 5 % false
    alarms.
    """

    now: float
    before: float
    before_5: float
    score: float
    by_tiles: float


def judge(training: Sequence[Bag], sets: Mapping[str, Sequence[Bag]]) -> dict[str, Flagged]:
    """Fit the reference to training patients, and judge the patients of each set."""
    names = [str(index) for index in range(len(training))]
    reference = fit_reference(names, [shuffled(bag) for bag in training])
    before = OldScore.fit(_means(training))
    results = {}
    for name, bags in sets.items():
        verdicts = [reference.judge(shuffled(bag)) for bag in bags]
        results[name] = Flagged(
            now=float(np.mean([verdict.state == OUT for verdict in verdicts])),
            before=float((before(_means(bags)) > before.limit).mean()),
            before_5=float((before(_means(bags)) > before.limit_5).mean()),
            score=float(np.median([verdict.score for verdict in verdicts])),
            by_tiles=float(np.mean([verdict.level != "patient" for verdict in verdicts])),
        )
    return results


def _means(bags: Sequence[Bag]) -> NDArray[np.float64]:
    # A missing value of all slides of a patient stays missing, and is 0 for the earlier score.
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.stack(
            [np.nansum(bag, axis=0) / np.isfinite(bag).sum(axis=0) for bag in bags]
        ).astype(np.float64)


def synthetic_bags(encoder: TileEncoder, seed: int) -> Sets:
    """Return bags of 100 synthetic patients, and of the last 30 of them with each change."""
    config = shifted_tiles.synthetic_config(seed, _SYNTHETIC)
    patients = config.patients
    sets = {"plain": [*shifted_tiles.synthetic_patients(config, patients, "plain", encoder)]}
    for kind in (*KINDS, "organ"):
        changed = shifted_tiles.synthetic_patients(config, patients[70:], kind, encoder)
        sets[kind] = [*changed]
    return sets


def synthetic_rows(sets: Sets) -> Iterator[dict[str, Any]]:
    """Train on some of the first 70 patients, and judge the others and the changed ones."""
    for count in _SYNTHETIC_TRAINING:
        for seed in range(SEEDS):
            chosen = np.random.default_rng(seed).permutation(70)[:count].tolist()
            held = [bag for index, bag in enumerate(sets["plain"]) if index not in chosen]
            changed = {name: bags for name, bags in sets.items() if name != "plain"}
            training = [sets["plain"][index] for index in chosen]
            yield from _rows("synthetic", training, {HELD: held, **changed}, seed)


def real_bags(data: Path, encoder: TileEncoder, work: Path) -> Sets:
    """Return bags of parts of her2st sections, plain and changed, and of other organs."""
    sets: Sets = {}
    for entry in shifted_tiles.her2st_slides(data / "her2st"):
        for name in ("plain", *HER2ST_KINDS):
            # Every section is needed for training, and one of each patient for the changes.
            if name == "plain" or entry.slide_id in ("B4", "C3"):
                kind = KINDS.get(name, TileKind())
                parts = shifted_tiles.encode_slide(entry, kind, encoder, work, _PART_UM)
                sets[f"{name} {entry.slide_id}"] = parts
    files = {"skin (CMU-1)": "CMU-1-Small-Region", "kidney": "A9K0_1", "kidney 2": "A9K0_2"}
    others = [
        (name, SlideEntry(name, name, data / "slides" / f"{file}.svs"))
        for name, file in files.items()
    ]
    if (data / "tcga_tiles").is_dir():
        manifest = pd.read_csv(data / "tcga_tiles" / "manifest.csv")
        organ = dict(zip(manifest["file"], manifest["porpoise_cohort"], strict=True))
        for entry in find_slides(data / "tcga_tiles", mpp=0.25):
            breast = organ[entry.path.name] == "brca"
            others.append(("TCGA, breast" if breast else "TCGA, other organs", entry))
    for name, entry in others:
        bags = shifted_tiles.encode_slide(entry, TileKind(), encoder, work)
        sets.setdefault(name.removesuffix(" 2"), []).extend(bags)
    return sets


def real_rows(sets: Sets) -> Iterator[dict[str, Any]]:
    """Train on parts of the sections; judge other parts, changed ones, and other organs."""
    changes = [f"{kind} " for kind in HER2ST_KINDS]
    parts = [
        (name.removeprefix("plain "), place, bag)
        for name, bags in sets.items()
        if name.startswith("plain ")
        for place, bag in enumerate(bags)
    ]
    others = {
        name: bags
        for name, bags in sets.items()
        if not name.startswith(("plain ", *changes)) and bags
    }
    for seed in range(SEEDS):
        order = np.random.default_rng(seed).permutation(len(parts))
        cut = round(TRAINING_SHARE * len(parts))
        held = [parts[index] for index in order[cut:]]
        places = {(section, place) for section, place, _ in held}
        judged: Sets = {HELD: [bag for *_, bag in held]}
        for kind in HER2ST_KINDS:
            # Tiles of another size make other parts, so that all of them are judged.
            same = KINDS[kind].um == TileKind().um
            judged[kind] = [
                bag
                for section in ("B4", "C3")
                for place, bag in enumerate(sets[f"{kind} {section}"])
                if not same or (section, place) in places
            ]
        training = [parts[index][2] for index in order[:cut]]
        yield from _rows("her2st", training, {**judged, **others}, seed)
    training = [bag for section, _, bag in parts if section.startswith("C")]
    patient = {"patient B": [bag for section, _, bag in parts if section.startswith("B")]}
    yield from _rows("her2st, patient C alone", training, patient, 0)


def read_cancers(folder: Path) -> dict[str, list[Bag]]:
    """Return one bag of slides by patient for each cancer, over the features that all have."""
    tables = {name: pd.read_csv(folder / f"{name}_hif.csv.gz") for name in CANCERS}
    shared = [
        column
        for column in tables[CANCERS[0]]
        if column not in _NO_FEATURES and all(column in table for table in tables.values())
    ]
    return {
        name: [
            group[shared].to_numpy(np.float64) for _, group in table.groupby("bcr_patient_barcode")
        ]
        for name, table in tables.items()
    }


def cancer_rows(cancers: Mapping[str, list[Bag]]) -> Iterator[dict[str, Any]]:
    """Train on patients of one cancer, and judge others of it and those of the other cancers."""
    for name, patients in cancers.items():
        others = {other: bags for other, bags in cancers.items() if other != name}
        for seed in range(SEEDS):
            order = np.random.default_rng(seed).permutation(len(patients))
            cut = round(TRAINING_SHARE * len(patients))
            held = [patients[index] for index in order[cut:]]
            for count in (cut, 100, 40):
                training = [patients[index] for index in order[:count]]
                yield from _rows(f"features of {name}", training, {HELD: held, **others}, seed)


def _rows(
    setting: str, training: Sequence[Bag], sets: Mapping[str, Sequence[Bag]], seed: int
) -> Iterator[dict[str, Any]]:
    for name, flagged in judge(training, sets).items():
        row = {"setting": setting, "training": len(training), "set": name, "seed": seed}
        yield {**row, "patients": len(sets[name]), **flagged._asdict()}


def mean_table(rows: pd.DataFrame) -> pd.DataFrame:
    """Return the means over seeds, in the order in which settings and sets came."""
    keys = ["encoder", "setting", "training", "set"]
    columns = ["patients", *Flagged._fields]
    return rows.groupby(keys, sort=False)[columns].mean().reset_index()


def markdown(table: pd.DataFrame) -> str:
    """Return the table for the page of results."""
    lines = [
        "| encoder | trained on | training patients | judged | patients | flagged"
        " | before, its rule | before, at 5 % | median score | by tiles |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    lines += [
        f"| {row.encoder} | {row.setting} | {row.training} | {row.set} | {row.patients:.0f}"
        f" | {row.now:.1%} | {row.before:.1%} | {row.before_5:.1%} | {row.score:.1f}"
        f" | {row.by_tiles:.0%} |"
        for row in table.itertuples()
    ]
    return "\n".join([*lines[:2], *(line.replace("%", " %") for line in lines[2:])])


@plotting.styled
def draw(table: pd.DataFrame, path: Path) -> None:
    """Draw the flagged shares of each set, now and before."""
    largest = table.groupby(["encoder", "setting"])["training"].transform("max")
    shown = table[table["training"] == largest].reset_index(drop=True)
    figure, axis = plotting.subplots(width=plotting.TWO_COLUMNS, height=1.0 + 0.17 * len(shown))
    places = np.arange(len(shown))
    axis.hlines(places, shown["before_5"], shown["now"], color="0.85", linewidth=1.5)
    for column, size, colour, label in (
        ("before", 14, "0.75", "before, by its own rule"),
        ("before_5", 22, "0.45", "before, at 5 % false alarms"),
        ("now", 26, plotting.COLOURS[0], "now"),
    ):
        axis.scatter(shown[column], places, s=size, color=colour, label=label, zorder=3)
    axis.axvline(0.05, color="black", linestyle="--", linewidth=1, label="5 %")
    first = shown["setting"].ne(shown["setting"].shift()) | shown["encoder"].ne(
        shown["encoder"].shift()
    )
    for place in np.flatnonzero(first)[1:]:
        axis.axhline(place - 0.5, color="0.85", linewidth=0.8)
    axis.set(
        yticks=places,
        yticklabels=[
            f"{row.setting}, {row.encoder}: {row.set} (n = {row.patients:.0f})".replace(
                f", {SLIDE_FEATURES}", ""
            )
            for row in shown.itertuples()
        ],
        xlabel="share of patients flagged as out of distribution",
    )
    axis.tick_params(axis="y", labelsize=7)
    axis.set_ylim(len(shown) - 0.5, -0.5)
    figure.legend(loc="outside upper center", ncols=4)
    plotting.save_figure(figure, path, shown)


def kept(path: Path, make: Callable[[], Sets]) -> Sets:
    """Return bags from a file, or make and store them."""
    if not path.is_file():
        sets = make()
        stored = {f"{name}|{i}": bag for name, bags in sets.items() for i, bag in enumerate(bags)}
        np.savez(path, **stored)  # type: ignore[arg-type]
        return sets
    found: Sets = {}
    with np.load(path) as file:
        for key in file.files:
            found.setdefault(key.rpartition("|")[0], []).append(file[key])
    return found


def main() -> None:
    """Run every setting and write table and figure."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--encoder", nargs="+", default=["timm:resnet10t"])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=1, help="seed of the synthetic patients")
    given = parser.parse_args()
    torch.set_num_threads(1)
    given.out.mkdir(parents=True, exist_ok=True)
    rows: list[dict[str, Any]] = []
    for source in given.encoder:
        # A network of timm stands for an encoder that knows nothing of tissue.
        encoder = open_encoder(source, untrained=source.startswith(TIMM_PREFIX))
        name = encoder.identity.rpartition(":")[2].partition("-")[0]
        drawn = kept(
            given.out / f"{name}-synthetic{given.seed}.npz",
            partial(synthetic_bags, encoder, given.seed),
        )
        rows += [{"encoder": name, **row} for row in synthetic_rows(drawn)]
        if (given.data / "her2st").is_dir():
            sections = kept(
                given.out / f"{name}-her2st.npz",
                partial(real_bags, given.data, encoder, given.out / "tiles"),
            )
            rows += [{"encoder": name, **row} for row in real_rows(sections)]
    if (given.data / "tcga_hif").is_dir():
        cancers = cancer_rows(read_cancers(given.data / "tcga_hif"))
        rows += [{"encoder": SLIDE_FEATURES, **row} for row in cancers]
    table = mean_table(pd.DataFrame(rows))
    write_csv(given.out / "out_of_distribution.csv", table)
    draw(table, given.out / "out_of_distribution.png")
    print(markdown(table))


if __name__ == "__main__":
    main()
