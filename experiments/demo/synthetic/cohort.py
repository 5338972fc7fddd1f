"""Write the synthetic cohort: slides, sections, tables and the truth behind them.

One slide is in memory at a time.
"""

from __future__ import annotations

import gzip
import json
from dataclasses import asdict
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from tcgn_mil.errors import InputError
from tcgn_mil.experiments.demo.synthetic.config import REGIONS, SyntheticConfig
from tcgn_mil.experiments.demo.synthetic.expression import (
    GeneProgrammes,
    bulk_tpm,
    clinical_row,
    gene_programmes,
    lay_spots,
    spot_counts,
    tissue_areas,
)
from tcgn_mil.experiments.demo.synthetic.rendering import patient_stain, render
from tcgn_mil.experiments.demo.synthetic.slide_artefacts import (
    SlideArtefact,
    apply_artefact,
    draw_artefacts,
)
from tcgn_mil.experiments.demo.synthetic.tissue import (
    LABEL_MPP,
    item_fractions,
    measured_fractions,
    region_map,
)
from tcgn_mil.io.atomic import atomic_path, write_csv, write_json, write_text
from tcgn_mil.io.pyramid import write_pyramid
from tcgn_mil.preprocessing.tiles.overlay import write_picture
from tcgn_mil.progress import Progress
from tcgn_mil.provenance import provenance

GENERATOR_VERSION = 3
"""Raised whenever the same config gives other pixels or numbers.

A folder therefore never holds the output of two versions.
"""

_README = """\
SYNTHETIC cohort: no patient, no tissue, no measurement.
Made by tcgn_mil.experiments.demo.synthetic.

regions/<slide or section>.npz
    labels: uint8 map of mpp micrometres per pixel; 0 is glass, then come
    {regions}
fractions.csv
    slide, patient_id, and the fraction of the slide's tissue in each region
section_fractions.csv
    the same for the spatial transcriptomics sections
genes.csv
    gene, kind, region, and effect: the fold change of expression in that region. For the kind
    "morphology" it is the fold change over the other tumour subtype, which has the same colours
    and differs in its nuclei only.
artefacts.csv
    slide, kind, x, y, width, height of pen marks and blurred patches, in pixels of level 0

Survival depends on the immune fraction only: the log hazard ratio is {ratio:g} for each 10 % of
the tissue.
"""


class SyntheticPaths(NamedTuple):
    """Paths of the parts of a cohort."""

    root: Path
    slides: Path
    """Table with slide_id, patient_id, path (relative to the table), mpp and site."""
    st: Path
    """Folder of sections in the layout of her2st."""
    bulk: Path
    clinical: Path
    """Table with survival, and with covariates that follow the tissue."""
    areas: Path
    """Table with the areas of tissue on each slide, as another tool would measure them."""
    programmes: Path
    """GMT file with one gene set for each programme of genes."""
    truth: Path


class _Slide(NamedTuple):
    slide_id: str
    patient: str
    site: int
    mpp: float


def make_cohort(config: SyntheticConfig, out_dir: str | Path) -> SyntheticPaths:
    """Write a cohort.

    Files that are there already are kept, so that an interrupted run continues.

    Parameters
    ----------
    config
        Sizes of the cohort.
    out_dir
        Folder to write.

    Raises
    ------
    InputError
        If the folder holds anything but a cohort of this config.
    """
    root = Path(out_dir)
    paths = SyntheticPaths(
        root,
        root / "slides.csv",
        root / "st",
        root / "bulk_tpm.csv",
        root / "clinical.csv",
        root / "tissue_areas.csv",
        root / "programmes.gmt",
        root / "truth",
    )
    _claim(config, root)
    programmes = gene_programmes(config)
    slides = _slides(config)
    fractions, artefacts = [], []
    with Progress(
        total=len(slides) + len(config.sections), desc="synthetic slides and sections", unit="image"
    ) as bar:
        for slide in slides:
            labels, flaws = _write_slide(config, slide, paths)
            fractions.append(_fraction_row("slide", slide.slide_id, slide.patient, labels))
            artefacts += [{"slide": slide.slide_id, **_box(flaw)} for flaw in flaws]
            bar.update()
        section_fractions = []
        for section, patient in config.sections.items():
            labels = _write_section(config, section, patient, programmes, paths)
            section_fractions.append(_fraction_row("section", section, patient, labels))
            bar.update()
    _write_patients(config, pd.DataFrame(fractions), programmes, paths)
    tables = {
        paths.truth / "fractions.csv": pd.DataFrame(fractions).drop(columns="tissue_um2"),
        paths.truth / "section_fractions.csv": pd.DataFrame(section_fractions).drop(
            columns="tissue_um2"
        ),
        paths.truth / "genes.csv": programmes.table,
        paths.truth / "artefacts.csv": pd.DataFrame(artefacts, columns=["slide", *_BOX_COLUMNS]),
        paths.slides: _slide_table(slides),
        paths.areas: pd.DataFrame([_area_row(config, row) for row in fractions]),
    }
    for path, table in tables.items():
        _write_missing_table(path, table)
    write_text(paths.programmes, _gene_sets(programmes.table))
    readme = _README.format(regions=", ".join(REGIONS), ratio=config.immune_log_hazard_ratio)
    write_text(paths.truth / "README.txt", readme)
    return paths


def _claim(config: SyntheticConfig, root: Path) -> None:
    """Write the manifest, or check that the one in the folder describes this cohort."""
    manifest = root / "manifest.json"
    # The config goes through JSON for the comparison, since a tuple comes back as a list.
    made_of = json.loads(
        json.dumps({"generator_version": GENERATOR_VERSION, "config": asdict(config)})
    )
    if manifest.exists():
        try:
            stored = json.loads(manifest.read_text(encoding="utf-8"))
        except ValueError as error:
            raise InputError(
                f"is not valid JSON: {error}", path=manifest, fix="give --out an empty folder"
            ) from error
        if {key: stored.get(key) for key in made_of} != made_of:
            raise InputError(
                "holds a synthetic cohort of another config",
                path=root,
                fix="give --out an empty folder",
            )
    elif root.exists() and (not root.is_dir() or any(root.glob("[!.]*"))):
        raise InputError("is not a synthetic cohort", path=root, fix="give --out an empty folder")
    else:
        write_json(manifest, {"synthetic": True, **made_of, "made_by": provenance()})
    for leftover in root.rglob(".*.tmp.*"):  # left by a run that was killed while writing
        leftover.unlink()


def _slides(config: SyntheticConfig) -> list[_Slide]:
    slides = []
    for patient in config.patients:
        site = config.site_of(patient)
        rng = config.rng(f"slides {patient}")
        number = 1 + int(rng.choice(len(config.slides_per_patient), p=config.slides_per_patient))
        slides += [
            _Slide(f"{patient}-01Z-00-DX{k + 1}", patient, site, config.scanner_mpp[site])
            for k in range(number)
        ]
    return slides


def _slide_table(slides: list[_Slide]) -> pd.DataFrame:
    rows = [
        (s.slide_id, s.patient, f"slides/{s.slide_id}.tiff", s.mpp, s.patient[5:7]) for s in slides
    ]
    return pd.DataFrame(rows, columns=["slide_id", "patient_id", "path", "mpp", "site"])


def _write_slide(
    config: SyntheticConfig, slide: _Slide, paths: SyntheticPaths
) -> tuple[NDArray[np.uint8], list[SlideArtefact]]:
    name = slide.slide_id
    fractions = item_fractions(config, slide.patient, name)
    labels = region_map(
        config.rng(f"regions {name}"), config.slide_size_um, config.slide_tissue_fraction, fractions
    )
    flaws = draw_artefacts(config, name, labels, slide.mpp)
    _write_regions(paths.truth / "regions" / f"{name}.npz", labels)
    path = paths.root / "slides" / f"{name}.tiff"
    if not path.exists():
        stain = patient_stain(config, slide.patient, slide.site)
        image = render(labels, slide.mpp, stain, config.rng(f"pixels {name}"))
        for flaw in flaws:
            apply_artefact(image, flaw, slide.mpp)
        write_pyramid(path, image, mpp=slide.mpp, quality=config.jpeg_quality)
    return labels, flaws


def _write_section(
    config: SyntheticConfig,
    section: str,
    patient: str,
    programmes: GeneProgrammes,
    paths: SyntheticPaths,
) -> NDArray[np.uint8]:
    fractions = item_fractions(
        config,
        patient,
        section,
        least=config.min_section_fraction,
        least_tumour=config.min_section_tumour,
    )
    labels = region_map(
        config.rng(f"regions {section}"),
        config.section_size_um,
        config.section_tissue_fraction,
        fractions,
    )
    _write_regions(paths.truth / "regions" / f"{section}.npz", labels)
    spots = lay_spots(config, section, labels, LABEL_MPP)
    counts_path = paths.st / "ST-cnts" / f"{section}.tsv.gz"
    if not counts_path.exists():
        names = [f"{x}x{y}" for x, y in zip(spots.table["x"], spots.table["y"], strict=True)]
        measured = programmes.measured_on_spots(config)
        counts = spot_counts(config, section, spots.shares, measured.profiles)
        table = pd.DataFrame(counts, index=names, columns=measured.table["gene"].tolist())
        # No file name and no time in the gzip header, so that the same config gives the same bytes.
        with atomic_path(counts_path) as temporary:
            temporary.write_bytes(gzip.compress(table.to_csv(sep="\t").encode(), mtime=0))
    pixels = (spots.centres_um / config.section_mpp).round(2)
    selection = spots.table.round(3).assign(pixel_x=pixels[:, 0], pixel_y=pixels[:, 1], selected=1)
    selection_path = paths.st / "ST-spotfiles" / f"{section}_selection.tsv"
    _write_missing_table(selection_path, selection, separator="\t")
    image_path = paths.st / "ST-imgs" / section[0] / section / f"{section}.jpg"
    if not image_path.exists():
        stain = patient_stain(config, patient, config.site_of(patient))
        image = render(labels, config.section_mpp, stain, config.rng(f"pixels {section}"))
        write_picture(image_path, image, quality=config.jpeg_quality)
    return labels


def _write_patients(
    config: SyntheticConfig,
    fractions: pd.DataFrame,
    programmes: GeneProgrammes,
    paths: SyntheticPaths,
) -> None:
    """Write bulk expression and clinical table.

    The tissue of a patient is the mean over slides, weighted by their area of tissue.
    """
    tpm, clinical = [], []
    for name, slides in fractions.groupby("patient_id", sort=True):
        patient = str(name)
        mixture = np.average(slides[list(REGIONS)], axis=0, weights=slides["tissue_um2"])
        tpm.append([patient, *bulk_tpm(config, patient, mixture, programmes)])
        row = clinical_row(config, patient, mixture)
        clinical.append({**row, "site": patient[5:7]})
    bulk = pd.DataFrame(tpm, columns=["patient_id", *programmes.table["gene"]])
    _write_missing_table(paths.bulk, bulk)
    columns = ["patient_id", "age", "stage", "site", "leukocyte_fraction", "tumour_purity"]
    columns += ["time_days", "event"]
    _write_missing_table(paths.clinical, pd.DataFrame(clinical)[columns])


def _area_row(config: SyntheticConfig, row: dict[str, object]) -> dict[str, object]:
    """Return a slide's row of the table of another tool, from its row of true fractions."""
    shares = np.array([row[region] for region in REGIONS], dtype=float)
    name = str(row["slide"])
    return {"slide_id": name, **tissue_areas(config, name, shares)}


def _gene_sets(genes: pd.DataFrame) -> str:
    """Return the gene sets in GMT format, one for each programme, and one of genes without any."""
    programme = genes["gene"].str.rsplit("_", n=1).str[0]
    lines = [
        "\t".join([str(name), "planted in the synthetic cohort", *part["gene"]])
        for name, part in genes.groupby(programme, sort=False)
    ]
    return "\n".join(lines) + "\n"


def _fraction_row(
    kind: str, name: str, patient: str, labels: NDArray[np.uint8]
) -> dict[str, object]:
    shares = dict(zip(REGIONS, measured_fractions(labels).tolist(), strict=True))
    return {
        kind: name,
        "patient_id": patient,
        **shares,
        "tissue_um2": float((labels > 0).sum() * LABEL_MPP**2),
    }


_BOX_COLUMNS = ("kind", "x", "y", "width", "height")


def _box(artefact: SlideArtefact) -> dict[str, object]:
    return {column: getattr(artefact, column) for column in _BOX_COLUMNS}


def _write_regions(path: Path, labels: NDArray[np.uint8]) -> None:
    if not path.exists():
        with atomic_path(path) as temporary:
            np.savez_compressed(temporary, labels=labels, mpp=np.float64(LABEL_MPP))


def _write_missing_table(path: Path, table: pd.DataFrame, separator: str = ",") -> None:
    if not path.exists():
        write_csv(path, table, digits=10, separator=separator)
