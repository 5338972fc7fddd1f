"""Explain images, gene by gene (the verb ``tcgn-mil explain``).

Each image and gene gives a figure ``figures/<image>_<gene>.png`` and a row of ``explanations.csv``.
``nodes.csv`` holds Grad-CAM and integrated gradients summed over each patch of the graph (without
Grad-CAM for a vision transformer),
``degrees.csv`` and ``graph.csv`` the learned graphs, and ``failures.csv`` what could not be
explained. A run starts from the beginning each time, since it takes seconds for each image.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd

from tcgn_mil.errors import InputError
from tcgn_mil.experiments.explain.attribution_tables import explain_image, explanation_tables
from tcgn_mil.experiments.explain.config import ExplainConfig
from tcgn_mil.experiments.explain.figures import draw_explanation
from tcgn_mil.experiments.explain.gene_models import GeneModel, spot_model
from tcgn_mil.experiments.explain.images import (
    ExplainedImage,
    ExplainedSlides,
    ImagesOfSource,
    section_images,
    section_paths,
    section_relations,
)
from tcgn_mil.experiments.runs.inputs import begin_again, existing
from tcgn_mil.experiments.runs.run_folder import finish_run
from tcgn_mil.io.atomic import as_file_name, safe_file_name, write_csv
from tcgn_mil.io.failures import Failure, write_failures
from tcgn_mil.preprocessing.interop.tile_source import TileSource, read_centre_tile
from tcgn_mil.progress import Progress, tell
from tcgn_mil.text import preview

KIND = "explain"
# Keys of the config that name the files of a run.
_OF_IMAGES = ("encoder", "spots", "image")
_OF_SLIDES = ("encoder", "slide_model", "features", "tiles", "slides")


def run(config: ExplainConfig, out_dir: str | Path) -> tuple[dict[str, Any], list[Failure]]:
    """Explain every image.

    A section or slide that cannot be explained becomes a row of ``failures.csv``, and the others go
    on. If there is only one, its error is raised.

    Parameters
    ----------
    config
        Model, genes and images.
    out_dir
        Folder for figures and tables.

    Returns
    -------
    summary
        Numbers of images, their unit, and the largest error of integration.
    failures
        Sections or slides that could not be explained.

    Raises
    ------
    InputError
        If nothing could be explained.
    """
    sources = _sources(config)
    names = _OF_SLIDES if config.slide_model is not None else _OF_IMAGES
    out_dir, notes = begin_again(out_dir, KIND, config, existing(config, names))
    for note in notes:
        tell(note)
    parts: dict[str, list[pd.DataFrame]] = {}
    failures: list[Failure] = []
    # Sources are loaded one at a time: pixels of many slides would not fit into memory.
    for name, load in Progress(
        sources.items(), desc="explain", unit="source", disable=len(sources) == 1
    ):
        try:
            for part, table in _explain_source(load(), config.steps, out_dir):
                parts.setdefault(part, []).append(table)
        except InputError as error:
            # With a single source, its error says more than a list of failures with one row.
            if len(sources) == 1:
                raise
            failures.append(Failure(name, KIND, error.reason, error.fix or ""))
    write_failures(out_dir, failures)
    if not parts:
        raise InputError(
            f"nothing could be explained: {failures[0].reason}", fix=failures[0].likely_fix
        )
    for part, tables in parts.items():
        write_csv(out_dir / f"{part}.csv", pd.concat(tables))
    overview = pd.concat(parts["explanations"])
    summary = {
        "pictures": int(overview["picture"].nunique()),
        "trained_on": int(overview.loc[overview["relation"] == "trained on", "picture"].nunique()),
        "genes": list(overview["gene"].unique()),
        # A vision transformer has no map for Grad-CAM, and its columns are empty then.
        "grad_cam": bool(overview["cam_sum"].notna().any()),
        "unit": str(overview["unit"].iloc[0]),
        "largest_integration_error": float(overview["ig_delta"].abs().max()),
    }
    return finish_run(out_dir, summary), failures


def _sources(config: ExplainConfig) -> dict[str, Callable[[], ImagesOfSource]]:
    """Return a function that loads the images of each section, slide or image file.

    Whatever concerns all of them is checked here, before the first is loaded.
    """
    if config.slide_model is not None:
        tile_source = _slides(config)
        slides = ExplainedSlides(
            config.slide_model,
            config.encoder,
            config.features,
            config.genes,
            options=config.encoder_options,
        )
        return {
            slide: partial(slides.images_of, slide, tile_source, config.top)
            for slide in config.slide_ids
        }
    model = spot_model(config.encoder, config.genes)
    if config.image is not None:
        name = safe_file_name(Path(config.image).stem, what="image name")
        return {name: partial(_centre_of_image, name, config, model)}
    assert config.spots is not None
    relations = section_relations(config.encoder)
    return {
        section: partial(
            section_images,
            path,
            model,
            config.barcodes,
            config.top,
            relation=relations.get(section, ""),
        )
        for section, path in section_paths(config.spots, config.sections).items()
    }


def _slides(config: ExplainConfig) -> TileSource:
    """Open the slides, and check that those to be explained are among them."""
    assert config.slides is not None
    source = TileSource.from_slides(
        config.slides,
        tiles=config.tiles,
        mpp=config.mpp,
        override_mpp=config.override_mpp,
        recursive=config.recursive,
    )
    if unknown := [name for name in config.slide_ids if name not in source.entries]:
        raise InputError(
            f"holds no slide {preview(unknown)}",
            path=config.slides,
            fix=f"give --slide with a name among {preview([*source.entries])}",
        )
    return source


def _centre_of_image(name: str, config: ExplainConfig, model: GeneModel) -> ImagesOfSource:
    assert config.image is not None
    pixels = read_centre_tile(
        config.image, model.patch, mpp=config.mpp, override_mpp=config.override_mpp
    )
    return ImagesOfSource(model, [ExplainedImage(name, f"image {name}", pixels)])


def _explain_source(
    source: ImagesOfSource, steps: int, out_dir: Path
) -> Iterator[tuple[str, pd.DataFrame]]:
    """Draw the figures of the images of one source; yield their tables by name."""
    model = source.model
    for picture in Progress(source.pictures, desc="explain", unit="picture", leave=False):
        explanation = explain_image(model, picture.pixels, steps=steps)
        files = [f"figures/{as_file_name(f'{picture.name}_{gene}')}.png" for gene in model.genes]
        for index, file in enumerate(files):
            draw_explanation(picture, model, explanation, index, out_dir / file)
        tables = explanation_tables(picture, model, explanation)
        tables["explanations"]["figure"] = files
        yield from tables.items()
