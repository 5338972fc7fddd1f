"""Report on explanations: the figures of each image and gene, and their numbers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tcgn_mil.experiments.runs.finished_run import Run, table_of
from tcgn_mil.experiments.runs.page import Section, as_picture
from tcgn_mil.experiments.runs.report_part import ReportPart
from tcgn_mil.text import counted

_SHOWN_FIGURES = 8


def explain_sentence(run: Run) -> str:
    """Return what a run of ``explain`` did."""
    summary = run.summary
    genes = summary["genes"]
    named = ", ".join(genes[:3]) + (f" and {len(genes) - 3} more" if len(genes) > 3 else "")
    return f"Explained the prediction of {named} on {counted(summary['pictures'], 'image')}."


def explain_sections(run: Run, share: float) -> list[Section]:
    """Make the section on a run of ``explain``; it has no interactive data."""
    table = run.frame("explanations.csv")
    figures = [
        as_picture(run.folder / row.figure, f"{row.gene} in {row.where}")
        for row in table.head(_SHOWN_FIGURES).itertuples()
        if (run.folder / str(row.figure)).is_file()
    ]
    more = (
        f" The first {_SHOWN_FIGURES} of {len(table)} figures are shown; all are in"
        f" {run.folder.name}/figures."
        if len(table) > _SHOWN_FIGURES
        else ""
    )
    return [
        Section(
            run.title("Explanations: the parts of an image that a prediction comes from"),
            [
                "Grad-CAM shows what speaks for a gene. Integrated gradients add up to the change"
                " of its prediction from white glass. Edges and nodes are the patch graphs that the"
                f" network chose, which are the same for all genes.{more}"
            ],
            table_of(
                run,
                "explanations.csv",
                f"Values of each image and gene, in {run.summary['unit']}",
                {
                    "image": "picture",
                    "gene": "gene",
                    "predicted": "predicted",
                    "measured": "measured",
                    "Grad-CAM, for": "cam_sum",
                    "Grad-CAM, against": "cam_against",
                    "change from white glass": "ig_change",
                    "error of integration": "ig_delta",
                },
            ),
            figures,
        )
    ]


def methods(config: Mapping[str, Any], summary: Mapping[str, Any]) -> str:
    """Return the methods paragraph of a run of ``explain``."""
    # Runs from before vision transformers were explained all have Grad-CAM.
    cam = "Grad-CAM on the last feature map and by " if summary.get("grad_cam", True) else ""
    return (
        f"Predictions of {counted(len(summary['genes']), 'gene')} were explained by {cam}integrated"
        f" gradients from white glass, with {config['steps']} steps."
    )


def _command(run: Run) -> str:
    """Return the command that repeats a run; ``explain`` takes no ``--config``."""
    config = run.made.get("config", {})
    words = [f"tcgn-mil explain --encoder {config['encoder']}"]
    options = config.get("encoder_options", {})
    for key, option in {"model": "--encoder-model", "pooling": "--pooling"}.items():
        if options.get(key) is not None:
            words.append(f"{option} {options[key]}")
    words += [f"--encoder-argument {k}={v}" for k, v in options.get("arguments", {}).items()]
    words += [f"--{key}" for key in ("pretrained", "untrained") if options.get(key)]
    for key in ("spots", "image", "mpp", "slide_model", "slides"):
        if config.get(key) is not None:
            words.append(f"--{key.replace('_', '-')} {config[key]}")
    if config.get("slide_model") is not None:
        words.append(f"--features {config['features']} --tiles {config['tiles']}")
    lists = {"gene": "genes", "section": "sections", "spot": "barcodes", "slide": "slide_ids"}
    words += [f"--{option} {name}" for option, key in lists.items() for name in config.get(key, ())]
    return " ".join([*words, f"--top {config['top']} --steps {config['steps']} --out NEW"])


REPORT = ReportPart(
    kind="explain",
    position=7,
    sections=explain_sections,
    methods=methods,
    sentence=explain_sentence,
    command=_command,
    files=("explanations.csv", "nodes.csv", "figures"),
)
