"""Every verb that writes, each with inputs of a few kilobytes, for tests that disturb its run."""

from __future__ import annotations

import gzip
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd
from changing_slides import SIZE, Cohort, paint, write_encoder
from PIL import Image
from small_runs import NEW, make_small_cohort, run_encoder, run_slide_model
from spot_runs import PATIENTS as SECTIONS
from spot_sections import write_sections

from tcgn_mil.experiments.slide_level.config import FinetuneConfig
from tcgn_mil.io.clinical_file import write_survival
from tcgn_mil.types.outcomes import SurvivalTable

SLIDES = ("S1", "S2", "S3")
SMALL_NETWORK = ("model.embedding=16", "model.attention_hidden=8", "training.batch_size=16")
SMALL_SPOT_NETWORK = (
    "model=resnet10t",
    "encoder_options.untrained=true",
    "input_px=32",
    "views=1",
    "training.epochs=2",
    "training.batch_size=32",
)


class Inputs:
    """Inputs of the verbs, each made in a folder when it is first asked for."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)

    @cached_property
    def slides(self) -> Cohort:
        """Three slides and their table; other parts are made by the verbs."""
        cohort = Cohort(self.folder / "slides", write_encoder(self.folder / "encoder"))
        for seed, name in enumerate(SLIDES):
            paint(cohort.slide(name), seed)
        cohort.list_slides(*SLIDES)
        return cohort

    @cached_property
    def tiles(self) -> Cohort:
        assert self.slides.tile().code == 0
        return self.slides

    @cached_property
    def features(self) -> Cohort:
        assert self.tiles.encode().code == 0
        return self.tiles

    @cached_property
    def arrays(self) -> Path:
        """Features of three slides as arrays of another tool."""
        folder = self.folder / "arrays"
        folder.mkdir()
        for seed, name in enumerate(SLIDES):
            values = np.random.default_rng(seed).normal(size=(40, 8)).astype(np.float32)
            np.save(folder / f"{name}.npy", values)
        return folder

    @cached_property
    def bulk(self) -> tuple[Path, Path]:
        """Return a table of expression, and a table of slides."""
        rng = np.random.default_rng(0)
        patients = [f"TCGA-AA-{number:04d}" for number in range(12)]
        values = rng.exponential(5, (12, 40)).round(3)
        table = pd.DataFrame(values, [f"{name}-01A" for name in patients], _genes(40))
        table.rename_axis("id").to_csv(self.folder / "bulk.csv")
        slides = pd.DataFrame({"slide_id": patients, "patient_id": patients})
        slides.to_csv(self.folder / "bulk-slides.csv", index=False)
        return self.folder / "bulk.csv", self.folder / "bulk-slides.csv"

    @cached_property
    def follow_up(self) -> Path:
        rows = "".join(
            f"p{i:02d},{200 + 50 * i},{'dead' if i % 3 else 'alive'},{40 + i}\n" for i in range(30)
        )
        path = self.folder / "follow-up.csv"
        path.write_text("id,time,status,age\n" + rows, encoding="utf-8")
        return path

    @cached_property
    def her2st(self) -> Path:
        """Two sections in the layout of her2st."""
        root, rng = self.folder / "her2st", np.random.default_rng(0)
        for folder in ("ST-cnts", "ST-spotfiles"):
            (root / folder).mkdir(parents=True)
        y, x = (grid.ravel() for grid in np.mgrid[1:5, 1:6])
        for name in ("A1", "B1"):
            picture = root / "ST-imgs" / name[0] / name / f"{name}.png"
            picture.parent.mkdir(parents=True)
            Image.fromarray(rng.integers(0, 255, (240, 280, 3), dtype=np.uint8)).save(picture)
            counts = rng.poisson(3, (len(x), 8))
            index = [f"{i}x{j}" for i, j in zip(x, y, strict=True)]
            with gzip.open(root / "ST-cnts" / f"{name}.tsv.gz", "wt") as file:
                pd.DataFrame(counts, index, _genes(8)).to_csv(file, sep="\t")
            positions = {"x": x, "y": y, "new_x": x, "new_y": y}
            positions |= {"pixel_x": 40 * x, "pixel_y": 40 * y, "selected": 1}
            pd.DataFrame(positions).to_csv(
                root / "ST-spotfiles" / f"{name}_selection.tsv", sep="\t", index=False
            )
        return root

    @cached_property
    def cohort(self) -> FinetuneConfig:
        """Features and expression of a small cohort."""
        return make_small_cohort(self.folder / "cohort")

    @cached_property
    def new_patients(self) -> Path:
        """Features of two patients who are not in the cohort."""
        folder, source = self.folder / "new-patients", Path(self.cohort.features)
        folder.mkdir()
        for name in NEW:
            shutil.copy(source / f"{name}-1.h5", folder)
        return folder

    @cached_property
    def finetuned(self) -> Path:
        return run_slide_model(self.cohort, self.folder / "finetuned")

    @cached_property
    def sections(self) -> Path:
        return write_sections(self.folder / "sections", SECTIONS)

    @cached_property
    def pretrained(self) -> Path:
        return run_encoder(self.folder / "pretrained")

    @cached_property
    def outcomes(self) -> tuple[Path, Path]:
        """Return a clinical table, and expression that is related to it."""
        rng, count = np.random.default_rng(0), 80
        patients = tuple(f"TCGA-{row % 9:02d}-{row:04d}" for row in range(count))
        signal, age = rng.normal(size=count), rng.normal(60, 10, count)
        death, end = rng.exponential(1500 * np.exp(-signal)) + 5, rng.exponential(2500, count) + 5
        covariates = pd.DataFrame({"age": age}, index=pd.Index(patients, name="patient_id"))
        days = np.minimum(death, end)
        survival = SurvivalTable("OS", patients, days, death <= end, covariates)
        write_survival(self.folder / "clinical.csv", [survival], meta={})
        values = rng.normal(size=(count, 12))
        values[:, 0] += 2 * signal
        table = pd.DataFrame(values, pd.Index(patients, name="patient"), _genes(12))
        table.to_csv(self.folder / "predicted.csv")
        return self.folder / "clinical.csv", self.folder / "predicted.csv"

    @cached_property
    def sets(self) -> Path:
        path = self.folder / "sets.gmt"
        path.write_text("MINE\tx\t" + "\t".join(_genes(8)) + "\n", encoding="utf-8")
        return path


def _genes(count: int) -> list[str]:
    return [f"G{number}" for number in range(count)]


Arguments = Callable[[Inputs], list[object]]


@dataclass(frozen=True)
class VerbCase:
    """A verb with its arguments.

    Attributes
    ----------
    name
        Name of the case, which begins with that of the verb.
    arguments
        Returns the verb and its arguments without ``--out``.
    out
        Name of what is written. One with a suffix is a file.
    replaces
        Whether the folder is replaced as a whole.
    """

    name: str
    arguments: Arguments
    out: str = "out"
    replaces: bool = False


def _tile(inputs: Inputs) -> list[object]:
    return ["tile", inputs.slides.folder / "slides.csv", *SIZE]


def _encode(inputs: Inputs) -> list[object]:
    cohort = inputs.tiles
    given = ["--tiles", cohort.folder / "tiles", "--encoder", cohort.encoder, "--device", "cpu"]
    return ["encode", cohort.folder / "slides.csv", *given]


def _import_features(inputs: Inputs) -> list[object]:
    size = ["--patch-px", 256, "--patch-mpp", 0.5]
    return ["import-features", inputs.arrays, "--encoder", "mine", *size]


def _export_tiles(inputs: Inputs) -> list[object]:
    return ["export-tiles", inputs.tiles.folder / "tiles", "--format", "geojson"]


def _bulk(inputs: Inputs) -> list[object]:
    expression, slides = inputs.bulk
    return ["bulk", expression, "--unit", "fpkm", "--slides", slides]


def _clinical(inputs: Inputs) -> list[object]:
    columns = ["--patient-column", "id", "--time-column", "time", "--event-column", "status"]
    coding = ["--time-unit", "days", "--event-values", "dead", "--covariate", "age"]
    return ["clinical", inputs.follow_up, *columns, "--endpoint", "OS", *coding]


def _spots(inputs: Inputs) -> list[object]:
    size = ["--patch-px", 16, "--patch-mpp", 1.0, "--mpp", 1.0, "--spot-pitch-um", 40]
    return ["spots", inputs.her2st, "--format", "her2st", *size]


def _slide_model(verb: str, *options: str) -> Arguments:
    def arguments(inputs: Inputs) -> list[object]:
        config = inputs.cohort
        given = ["--cohort", config.cohort, "--features", config.features]
        settings = ("n_folds=3", "training.epochs=2", "replicates=50", *options)
        return [verb, *given, *_settings(*settings)]

    return arguments


def _predict(inputs: Inputs) -> list[object]:
    given = ["--model", inputs.finetuned, "--features", inputs.new_patients]
    return ["predict", *given, "--map-gene", "SEEN0"]


def _associate(inputs: Inputs) -> list[object]:
    given = ["--predicted", inputs.outcomes[1], "--sets", inputs.sets]
    settings = _settings("unit=log2(tpm+1)", "permutations=50", "min_set_genes=3")
    return ["associate", *given, *settings]


def _survive(inputs: Inputs) -> list[object]:
    clinical, predicted = inputs.outcomes
    given = ["--clinical", clinical, "--endpoint", "OS", "--predicted", predicted]
    quick = ("risk.l1_ratios=[0.5]", "risk.n_penalties=4", "risk.inner_folds=3", "n_folds=3")
    return ["survive", *given, "--covariate", "age", *_settings(*quick, "replicates=30")]


def _spot_level(verb: str, *options: str) -> Arguments:
    def arguments(inputs: Inputs) -> list[object]:
        return [verb, "--spots", inputs.sections, *_settings(*SMALL_SPOT_NETWORK, *options)]

    return arguments


def _settings(*settings: str) -> list[object]:
    return [part for setting in settings for part in ("--set", setting)]


CASES = {
    case.name: case
    for case in (
        VerbCase("tile", _tile),
        VerbCase("encode", _encode),
        VerbCase("import-features", _import_features),
        VerbCase("export-tiles", _export_tiles),
        VerbCase("bulk", _bulk, "cohort.h5ad"),
        VerbCase("clinical", _clinical, "clinical.csv"),
        VerbCase("spots", _spots),
        VerbCase("finetune", _slide_model("finetune", *SMALL_NETWORK)),
        VerbCase("slide-cv", _slide_model("slide-cv", "model.kind=kernel", "refits=3")),
        VerbCase("predict", _predict),
        VerbCase("associate", _associate),
        VerbCase("survive", _survive),
        VerbCase(
            "export-predictions", lambda i: ["export-predictions", i.finetuned], replaces=True
        ),
        # Names are kept, since the salt of hashed ones is a new one each time.
        VerbCase("publish", lambda i: ["publish", i.finetuned, "--names", "kept"], replaces=True),
        VerbCase("spot-cv", _spot_level("spot-cv", "n_folds=2")),
        VerbCase("pretrain", _spot_level("pretrain", "val_sections=[C1]", "test_sections=[D1]")),
    )
}
