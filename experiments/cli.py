"""The command ``tcgn-mil``: a verb for each stage.

Nothing heavy is imported at the top, so that ``--help`` answers at once.
"""

from __future__ import annotations

import errno
import sys
from pathlib import Path
from typing import Annotated

import typer

from tcgn_mil import __version__
from tcgn_mil.contracts import DEFAULT_PATCH_MPP, DEFAULT_PATCH_PX, PatchSize, preview
from tcgn_mil.errors import InputError
from tcgn_mil.experiments.console import finish_cohort, print_config, print_rows, resolve, warn_of_leakage

app = typer.Typer(
    name="tcgn-mil",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Bulk gene expression from whole-slide images: pretrain TCGN on spatial transcriptomics, tile and encode"
    " slides, fine-tune attention pooling on bulk RNA-seq, predict cohorts.",
)

Out = Annotated[
    Path, typer.Option("--out", help="Folder to write; a finished part found there is kept.", file_okay=False)
]
Config = Annotated[Path | None, typer.Option("--config", help="YAML file of config keys.", show_default=False)]
Overrides = Annotated[
    list[str] | None,
    typer.Option("--set", help="Config key, e.g. --set training.lr=3e-4; may be repeated.", show_default=False),
]
ShowConfig = Annotated[bool, typer.Option("--show-config", help="Print the resolved config and stop.")]
SpotsDir = Annotated[
    Path | None, typer.Option("--spots", help="Folder that tcgn-mil spots wrote.", show_default="spots")
]
MissingGenes = Annotated[
    str | None,
    typer.Option(help="Panel genes that a section did not measure: error, zero or drop.", show_default="error"),
]
PatchPx = Annotated[int, typer.Option("--patch-px", help="Side of a patch or tile in stored pixels.")]
PatchMpp = Annotated[float, typer.Option("--patch-mpp", help="Micrometres per stored pixel (px x mpp = field in µm).")]
Slides = Annotated[
    Path, typer.Argument(help="One slide, a folder, or a table with path[, slide_id, patient_id, mpp, site].")
]
SlideMpp = Annotated[
    float | None,
    typer.Option("--mpp", help="µm per pixel of level 0, for slides that do not state it.", show_default=False),
]

_OTHER_FOLDER = "give another --out, whose folder may be written"
_UNWRITABLE = {
    errno.EACCES: _OTHER_FOLDER, errno.EPERM: _OTHER_FOLDER, errno.EROFS: _OTHER_FOLDER,
    errno.ENOTDIR: "a part of the path is a file; give another", errno.EEXIST: "it is a file; give another --out",
    errno.EISDIR: "it is a folder; give the name of a file", errno.ENOSPC: "free some space and run it again",
    errno.EDQUOT: "free some space and run it again",
}  # fmt: skip


def main() -> None:
    """Run the command line; bad input ends with one line on standard error and exit code 2."""
    try:
        app()
    except InputError as error:
        sys.stderr.write(f"error: {error}\n")
        sys.exit(2)
    except OSError as error:
        if error.errno not in _UNWRITABLE:
            raise
        where = error.filename2 or error.filename
        sys.stderr.write(f"error: {where or 'the disk'}: {error.strerror}. Fix: {_UNWRITABLE[error.errno]}\n")
        sys.exit(2)


def _version(asked: bool) -> None:
    if asked:
        typer.echo(f"tcgn-mil {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Options that come before the verb."""


@app.command()
def demo(
    out: Out = Path("demo"),
    preset: Annotated[str, typer.Option(help="Size: demo (24 patients), study (60) or test (9).")] = "demo",
    seed: Annotated[int, typer.Option(help="Seed of the cohort and of training.")] = 0,
) -> None:
    """Make a synthetic cohort and run every stage on it, up to report.html."""
    from tcgn_mil.experiments.demo import run_demo

    report = run_demo(out, preset_name=preset, seed=seed)
    typer.echo(f"\nSynthetic demo finished. Open {report}")


@app.command()
def spots(
    source: Annotated[
        Path,
        typer.Argument(help="Folder or file of ST sections, or a table with path[, section, patient_id, image]."),
    ],
    out: Out = Path("spots"),
    layout: Annotated[
        str, typer.Option("--format", help="Layout of the source: auto, her2st, visium, h5ad or hest.")
    ] = "auto",
    section: Annotated[list[str] | None, typer.Option(help="Only this section; may be repeated.")] = None,
    image: Annotated[
        Path | None, typer.Option(help="Full-resolution image of the section (Visium).", show_default=False)
    ] = None,
    patch_px: PatchPx = DEFAULT_PATCH_PX,
    patch_mpp: PatchMpp = DEFAULT_PATCH_MPP,
    spot_pitch_um: Annotated[
        float | None,
        typer.Option(help="Distance of neighbouring spots in µm.", show_default="100 for Visium, 200 for her2st"),
    ] = None,
    mpp: Annotated[
        float | None,
        typer.Option(help="µm per pixel of the images, instead of measuring it from the spots.", show_default=False),
    ] = None,
    gene_ids: Annotated[str, typer.Option(help="Name genes by symbol or by ensembl id.")] = "symbol",
    allow_coarse: Annotated[
        bool, typer.Option(help="Write patches of an image too coarse for them, enlarged past the bound.")
    ] = False,
    slides_out: Annotated[
        Path | None,
        typer.Option(help="Also write each section as a pyramidal TIFF slide with its summed counts, here."),
    ] = None,
    pseudobulk_by: Annotated[
        str, typer.Option(help="With --slides-out: counts summed, and slides joined, by section or by patient.")
    ] = "section",
) -> None:
    """Read spatial transcriptomics into one SpotSet a section: raw counts, patches and an alignment picture."""
    from tcgn_mil.preprocessing.spots import write_spots

    done, failures, notes = write_spots(
        source, out, format=layout, sections=section, image=image, patch=PatchSize(patch_px, patch_mpp),
        spot_pitch_um=spot_pitch_um, mpp=mpp, gene_ids=gene_ids, allow_coarse=allow_coarse,
        slides_out=slides_out, pseudobulk_by=pseudobulk_by,
    )  # fmt: skip
    for note in notes:
        typer.echo(note, err=True)
    finish_cohort(len(done), failures, out, what="sections read", unit="section")


@app.command()
def pretrain(
    spots_dir: SpotsDir = None,
    out: Out = Path("encoder"),
    val_section: Annotated[list[str] | None, typer.Option(help="Section for early stopping; repeatable.")] = None,
    test_section: Annotated[list[str] | None, typer.Option(help="Section read once, at the end; repeatable.")] = None,
    missing_genes: MissingGenes = None,
    config: Config = None,
    overrides: Overrides = None,
    show_config: ShowConfig = False,
) -> None:
    """Train the spot encoder on sections; writes encoder.safetensors and the per-gene results on test sections."""
    from tcgn_mil.experiments import pretraining
    from tcgn_mil.experiments.spot_config import SpotConfig

    given = {
        "spots": spots_dir, "val_sections": val_section, "test_sections": test_section, "panel.missing": missing_genes,
    }  # fmt: skip
    resolved = resolve(SpotConfig, config, overrides, given)
    if show_config:
        return print_config(resolved)
    summary = pretraining.run(resolved, out)
    if summary["results"]:
        print_rows(summary["results"])
    warn_of_leakage(summary)
    typer.echo(f"encoder: {out / 'encoder.safetensors'}")
    return None


@app.command("spot-cv")
def spot_cross_validation(
    spots_dir: SpotsDir = None,
    out: Out = Path("spot-cv"),
    group_by: Annotated[
        str | None, typer.Option(help="What is tested together: patient, or section (patient leakage, labelled).")
    ] = None,
    folds: Annotated[
        Path | None, typer.Option(help="CSV with fold, part (train, val, test), id (section or patient).")
    ] = None,
    missing_genes: MissingGenes = None,
    preset: Annotated[str | None, typer.Option(help="published: the TCGN paper's protocol, labelled.")] = None,
    protocol: Annotated[
        str | None,
        typer.Option(help="own, or hest: frozen features, PCA to 256, ridge, 50 variable genes.", show_default="own"),
    ] = None,
    compare: Annotated[
        tuple[Path, Path] | None, typer.Option(help="Two finished runs to put side by side, gene by gene, in --out.")
    ] = None,
    config: Config = None,
    overrides: Overrides = None,
    show_config: ShowConfig = False,
) -> None:
    """Cross-validate the spot network beside its baselines; or put two such runs side by side."""
    if compare is not None:
        from tcgn_mil.experiments.spot_compare import compare_runs

        print_rows(compare_runs(*compare, out))
        typer.echo(f"gene by gene: {out / 'comparison.csv'}")
        return None
    from tcgn_mil.experiments import hest_protocol, spot_cv
    from tcgn_mil.experiments.spot_config import SpotConfig, preset_values

    given = {
        "spots": spots_dir, "group_by": group_by, "folds": folds, "panel.missing": missing_genes, "protocol": protocol,
    }  # fmt: skip
    resolved = resolve(SpotConfig, config, overrides, given, preset=preset_values(preset))
    if show_config:
        return print_config(resolved)
    summary = (hest_protocol if resolved.protocol == "hest" else spot_cv).run(resolved, out)
    print_rows(summary["results"])
    for label in summary["labels"]:
        typer.echo(label, err=True)
    typer.echo(f"{summary['sentence']}\n{out}")
    return None


@app.command()
def tile(
    slides: Slides,
    out: Out = Path("tiles"),
    mpp: SlideMpp = None,
    patch_px: PatchPx = DEFAULT_PATCH_PX,
    patch_mpp: PatchMpp = DEFAULT_PATCH_MPP,
    stride_px: Annotated[
        int | None, typer.Option(help="Step of the grid in stored pixels; the tile's side by default.")
    ] = None,
    min_tissue: Annotated[
        float | None, typer.Option(help="Least tissue share of a kept tile, 0 to 1; 0.1 by default.")
    ] = None,
    max_blur: Annotated[
        float | None, typer.Option(help="Largest share of a tile out of focus; 0.25 by default, 1 keeps all.")
    ] = None,
    max_pen: Annotated[
        float | None, typer.Option(help="Largest share of a tile under ink; 0.25 by default, 1 keeps all.")
    ] = None,
    max_fold: Annotated[
        float | None, typer.Option(help="Largest share of a tile under folds; 0.35 by default, 1 keeps all.")
    ] = None,
    stain: Annotated[
        str | None, typer.Option(help="Normalise stains when tiles are read: macenko or reinhard.", show_default="none")
    ] = None,
    stain_reference: Annotated[
        Path | None, typer.Option(help="Image of typical tissue to normalise to; macenko can do without.")
    ] = None,
    workers: Annotated[int, typer.Option(help="Processes, each with a slide at a time.")] = 1,
) -> None:
    """Find tissue and lay a grid in µm; writes tiles/<slide>.h5 with an overlay picture, and contact_sheet.html."""
    from tcgn_mil.preprocessing.contact_sheet import write_contact_sheet
    from tcgn_mil.preprocessing.slide_table import find_slides
    from tcgn_mil.preprocessing.stain import stain_target
    from tcgn_mil.preprocessing.tiling import TileSettings, tile_cohort

    if stain is None and stain_reference is not None:
        raise InputError("--stain-reference without --stain", fix="give --stain macenko or --stain reinhard too")
    entries = find_slides(slides, mpp=mpp)
    limits = {"min_tissue": min_tissue, "max_blur": max_blur, "max_pen": max_pen, "max_fold": max_fold}
    chosen = {name: value for name, value in limits.items() if value is not None}
    target = None if stain is None else stain_target(stain, stain_reference)
    settings = TileSettings(patch=PatchSize(patch_px, patch_mpp), stride_px=stride_px, stain=target, **chosen)
    done, failures = tile_cohort(entries, settings, out, workers=workers)
    sheet = write_contact_sheet(out, failures)
    typer.echo(f"to look at: {sheet}")
    finish_cohort(len(done), failures, out, what="slides tiled")


@app.command()
def encode(
    slides: Slides,
    tiles: Annotated[
        Path, typer.Option(help="Folder that tcgn-mil tile wrote, or CLAM's, TRIDENT's or HEST's folder of patches.")
    ] = Path("tiles"),
    encoder: Annotated[
        str, typer.Option(help="Encoder checkpoint, or timm:<model name> for any timm model.")
    ] = "encoder/encoder.safetensors",
    out: Out = Path("features"),
    mpp: SlideMpp = None,
    batch_size: Annotated[int, typer.Option(help="Tiles a batch.")] = 64,
    precision: Annotated[str, typer.Option(help="32-true, bf16-mixed or 16-mixed.")] = "32-true",
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or mps.")] = "auto",
    pretrained: Annotated[
        bool, typer.Option(help="For timm models: download pretrained weights instead of random ones.")
    ] = False,
    allow_other_size: Annotated[
        bool, typer.Option(help="Accept tiles of another physical size than the encoder was trained on.")
    ] = False,
) -> None:
    """Encode every tile; writes features/<slide>.h5."""
    from tcgn_mil.experiments.encoding import EncodeSettings, encode_cohort
    from tcgn_mil.experiments.slide_pixels import tile_finder, tile_reader
    from tcgn_mil.preprocessing.slide_table import find_slides

    settings = EncodeSettings(encoder, batch_size, precision, device, pretrained, allow_other_size)
    entries = {entry.slide_id: entry for entry in find_slides(slides, mpp=mpp)}
    done, failures = encode_cohort(sorted(entries), tile_finder(entries, tiles), tile_reader(entries), settings, out)
    finish_cohort(len(done), failures, out, what="slides encoded")


@app.command("export-tiles")
def export_tiles(
    tiles: Annotated[Path, typer.Argument(help="Folder of tile files: ours, or with --slides other tools' too.")],
    layout: Annotated[str, typer.Option("--format", help="Layout to write: clam, trident, hest or geojson.")],
    out: Out = Path("exported-tiles"),
    slides: Annotated[
        Path | None,
        typer.Option(help="The slides, as to tile: needed for hest, which holds pixels, and for other tools' files."),
    ] = None,
    mpp: SlideMpp = None,
) -> None:
    """Write tile files for CLAM, TRIDENT or HEST tools, or tile grids as GeoJSON for QuPath."""
    from tcgn_mil.preprocessing.cohort_tiles import export_cohort
    from tcgn_mil.preprocessing.slide_table import find_slides

    entries = None if slides is None else find_slides(slides, mpp=mpp)
    done, failures = export_cohort(tiles, layout, out, entries)
    finish_cohort(len(done), failures, out, what="slides exported")


@app.command()
def bulk(
    expression: Annotated[
        list[Path],
        typer.Argument(help="Expression: CSV, TSV (also .gz, .zip), Parquet, .h5ad, or a folder of GDC files."),
    ],
    unit: Annotated[
        str,
        typer.Option(help="Unit of the values: tpm, tpm-subset, fpkm, fpkm-uq, counts, log2(tpm+1) etc., zscore."),
    ],
    slides: Annotated[
        Path,
        typer.Option(help="The slides: one file, a folder, or a table with slide_id, patient_id and, if known, path."),
    ],
    out: Annotated[
        Path, typer.Option("--out", help="File to write; reports of slides, samples, genes beside it.", dir_okay=False)
    ] = Path("cohort.h5ad"),
    layout: Annotated[
        str,
        typer.Option(
            "--format", help="auto, wide, samples-by-genes, genes-by-samples, sequoia, porpoise, isb-cgc, gdc or h5ad."
        ),
    ] = "auto",
    gene_ids: Annotated[str, typer.Option(help="Name genes by symbol or by ensembl id.")] = "symbol",
    gene_map: Annotated[
        Path | None, typer.Option(help="Table of id and gene (a Xena probe map) to name genes.", show_default=False)
    ] = None,
    layer: Annotated[str | None, typer.Option(help="Layer of an .h5ad, instead of X.", show_default=False)] = None,
    preparation: Annotated[str, typer.Option(help="Slides to join, by TCGA name: any, diagnostic or frozen.")] = "any",
    clinical: Annotated[
        Path | None, typer.Option(help="clinical.csv, to count the joined patients' events.", show_default=False)
    ] = None,
) -> None:
    """Join expression to slides by patient; writes cohort.h5ad (patients x genes), join_report.csv, gene_report.csv."""
    from tcgn_mil.preprocessing.cohort import write_cohort
    from tcgn_mil.preprocessing.slide_manifest import list_slides

    summary = write_cohort(
        expression, list_slides(slides), unit=unit, out_path=out, format=layout, gene_ids=gene_ids, gene_map=gene_map,
        layer=layer, preparation=preparation, clinical=clinical,
    )  # fmt: skip
    for note in summary.notes:
        typer.echo(note, err=True)
    typer.echo(str(summary))
    if summary.failures:
        typer.echo(f"{len(summary.failures)} files left out, listed in {out.with_name('failures.csv')}", err=True)
        raise typer.Exit(1)


@app.command()
def clinical(
    files: Annotated[
        list[Path], typer.Argument(help="Clinical table(s): CSV, TSV (also .gz, .zip), .xlsx. The first file wins.")
    ],
    out: Annotated[
        Path,
        typer.Option(
            "--out", help="File to write; a figure, dropped_patients.csv, agreement.csv beside it.", dir_okay=False
        ),
    ] = Path("clinical.csv"),
    layout: Annotated[
        list[str] | None,
        typer.Option(
            "--format",
            help="auto, tcga-cdr, xena, porpoise, survpath, columns or covariates; once, or once a file.",
            show_default="auto",
        ),
    ] = None,
    endpoint: Annotated[
        list[str] | None,
        typer.Option(help="Endpoint wanted (OS, DSS, DFI, PFI), or the name of that in --time-column."),
    ] = None,
    covariate: Annotated[list[str] | None, typer.Option(help="Column to keep as given; may be repeated.")] = None,
    patient_column: Annotated[str | None, typer.Option(help="Column of patients or samples.")] = None,
    time_column: Annotated[list[str] | None, typer.Option(help="Column of times; once an --endpoint.")] = None,
    event_column: Annotated[list[str] | None, typer.Option(help="Column of events; once an --endpoint.")] = None,
    entry_column: Annotated[
        str | None, typer.Option(help="Column of the time when observation began (left truncation).")
    ] = None,
    time_unit: Annotated[str | None, typer.Option(help="Unit of --time-column: days, months or years.")] = None,
    event_coding: Annotated[str | None, typer.Option(help="What 1 means in --event-column: event or censored.")] = None,
    event_values: Annotated[
        str | None, typer.Option(help="Text that means an event, e.g. dead,deceased; other text means none.")
    ] = None,
    months: Annotated[float | None, typer.Option(help="Days in a month: 30.44 (PORPOISE) or 30 (SurvPath).")] = None,
    sheet: Annotated[str, typer.Option(help="Sheet of a workbook.")] = "TCGA-CDR",
    allow_unusual: Annotated[
        bool, typer.Option(help="Write in spite of what speaks against a declared unit or coding.")
    ] = False,
) -> None:
    """Read survival in days, and covariates, one row a patient; checks units, codings, and sources on each other."""
    from tcgn_mil.preprocessing.clinical_cohort import write_clinical
    from tcgn_mil.preprocessing.clinical_tables import ClinicalOptions

    options = ClinicalOptions(
        patient=patient_column, times=tuple(time_column or ()), events=tuple(event_column or ()),
        entry=entry_column, time_unit=time_unit, event_coding=event_coding,
        event_values=tuple(event_values.split(",")) if event_values else (),
        month_days=months, endpoints=tuple(endpoint or ()), covariates=tuple(covariate or ()), sheet=sheet,
    )  # fmt: skip
    summary = write_clinical(files, out, options, layouts=layout or ["auto"], allow_unusual=allow_unusual)
    for note in summary.notes:
        typer.echo(note)
    for warning in summary.warnings:
        typer.echo(f"warning: {warning}", err=True)
    if summary.agreement:
        print_rows(list(summary.agreement))
    if summary.dropped:
        typer.echo(f"{summary.dropped} outcomes or values listed in {out.parent / 'dropped_patients.csv'}", err=True)
    typer.echo(f"{summary.patients} patients: {out}")


@app.command()
def finetune(
    cohort: Annotated[Path, typer.Option(help="cohort.h5ad that tcgn-mil bulk wrote.")] = Path("cohort.h5ad"),
    features: Annotated[Path, typer.Option(help="Folder that tcgn-mil encode wrote.")] = Path("features"),
    out: Out = Path("slide-model"),
    folds: Annotated[
        Path | None, typer.Option(help="CSV with fold, part (train, val, test), id; made by seed if not given.")
    ] = None,
    config: Config = None,
    overrides: Overrides = None,
    show_config: ShowConfig = False,
) -> None:
    """Train attention pooling over all tiles of a patient's slides to bulk expression, one model a fold."""
    from tcgn_mil.experiments import finetuning

    given = {"cohort": cohort, "features": features, "folds": folds}
    resolved = resolve(finetuning.FinetuneConfig, config, overrides, given)
    if show_config:
        return print_config(resolved)
    summary = finetuning.run(resolved, out)
    print_rows(summary["headline"])
    warn_of_leakage(summary)
    typer.echo(f"models: {out}")
    return None


@app.command()
def predict(
    model: Annotated[Path, typer.Option(help="Folder that tcgn-mil finetune wrote.")] = Path("slide-model"),
    features: Annotated[Path, typer.Option(help="Folder that tcgn-mil encode wrote.")] = Path("features"),
    out: Out = Path("predictions"),
    thumbnails: Annotated[
        Path | None, typer.Option(help="Folder of tcgn-mil tile, for the pictures under the maps.")
    ] = None,
    map_gene: Annotated[
        list[str] | None, typer.Option(help="Gene to draw, repeatable; the best predicted ones by default.")
    ] = None,
    maps: Annotated[bool, typer.Option(help="Draw attention and expression maps of each slide.")] = True,
) -> None:  # fmt: skip
    """Predict bulk expression; writes predicted.h5ad, predicted.csv and a map picture for each slide."""
    from tcgn_mil.experiments.prediction import PredictConfig, run

    chosen = PredictConfig(str(model), str(features), None if thumbnails is None else str(thumbnails),
                           tuple(map_gene or ()), maps)  # fmt: skip
    summary, failures = run(chosen, out)
    shape = f"{summary['patients']} patients x {summary['genes']} genes"
    typer.echo(f"{shape} ({summary['unit']}): {out / 'predicted.h5ad'}")
    seen = summary["relation"].get("trained on", 0)
    if seen:
        typer.echo(f"{seen} of the patients were trained on: their predictions flatter the model", err=True)
    finish_cohort(summary["slides"], failures, out, what="slides predicted")


@app.command()
def explain(
    gene: Annotated[list[str] | None, typer.Option(help="Gene to explain; may be repeated.")] = None,
    encoder: Annotated[
        str, typer.Option(help="Encoder checkpoint; with --slide-model also timm:<model name>.")
    ] = "encoder/encoder.safetensors",
    out: Out = Path("explanations"),
    spots_dir: Annotated[
        Path | None, typer.Option("--spots", help="Explain spots: a folder that tcgn-mil spots wrote, or one .h5ad.")
    ] = None,
    section: Annotated[list[str] | None, typer.Option(help="Only this section; may be repeated.")] = None,
    spot: Annotated[
        list[str] | None, typer.Option(help="Spot; repeatable. Without, for each gene the --top of highest prediction.")
    ] = None,
    image: Annotated[Path | None, typer.Option(help="Explain the centre of a picture, with its --mpp.")] = None,
    slide_model: Annotated[
        Path | None, typer.Option(help="Explain tiles of top attention: the folder that tcgn-mil finetune wrote.")
    ] = None,
    features: Annotated[Path, typer.Option(help="Folder that tcgn-mil encode wrote.")] = Path("features"),
    tiles: Annotated[Path, typer.Option(help="Folder that tcgn-mil tile wrote.")] = Path("tiles"),
    slides: Annotated[Path | None, typer.Option(help="One slide, a folder, or a table, as to encode.")] = None,
    slide: Annotated[list[str] | None, typer.Option(help="Slide whose tiles are explained; repeatable.")] = None,
    mpp: Annotated[float | None, typer.Option(help="µm per pixel of the picture, or of slides without.")] = None,
    top: Annotated[int, typer.Option(help="Spots a gene, or tiles a slide.")] = 3,
    steps: Annotated[int, typer.Option(help="Steps of the integrated gradients.")] = 64,
    pretrained: Annotated[bool, typer.Option(help="For timm models: pretrained weights, as to encode.")] = False,
) -> None:
    """Show what a prediction rests on: Grad-CAM, integrated gradients and the learned graph, as figures and tables."""
    from tcgn_mil.experiments.explanation import ExplainConfig, run
    from tcgn_mil.experiments.slide_pixels import centre_reader, tile_reader
    from tcgn_mil.preprocessing.slide_table import find_slides

    names = {"spots": spots_dir, "image": image, "slide_model": slide_model, "slides": slides}
    paths = {key: None if value is None else str(value) for key, value in names.items()}
    chosen = ExplainConfig(
        encoder, tuple(gene or ()), sections=tuple(section or ()), barcodes=tuple(spot or ()), mpp=mpp, top=top,
        steps=steps, features=str(features), tiles=str(tiles), slide_ids=tuple(slide or ()), pretrained=pretrained,
        **paths,
    )  # fmt: skip
    entries = {} if slides is None else {entry.slide_id: entry for entry in find_slides(slides, mpp=mpp)}
    if unknown := [name for name in chosen.slide_ids if name not in entries]:
        raise InputError(
            f"no slide {preview(unknown)} among them", path=slides, fix=f"slides are {preview([*entries])}"
        )
    summary, failures = run(
        chosen, out, open_tiles=tile_reader(entries), read_image=None if image is None else centre_reader(image, mpp)
    )
    typer.echo(f"{summary['pictures']} pictures explained for {len(chosen.genes)} genes: {out / 'explanations.csv'}")
    if summary["trained_on"]:
        typer.echo(f"{summary['trained_on']} of them were trained on: their predictions flatter the model", err=True)
    if failures:
        typer.echo(f"{len(failures)} sections or slides failed, listed in {out / 'failures.csv'}", err=True)
        raise typer.Exit(1)


if __name__ == "__main__":
    main()
