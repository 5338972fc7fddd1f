"""Options that several verbs take."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Out = Annotated[
    Path,
    typer.Option(
        "--out", help="Folder to write; a finished part found there is kept.", file_okay=False
    ),
]
Config = Annotated[
    Path | None, typer.Option("--config", help="YAML file of config keys.", show_default=False)
]
Overrides = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        help="Config key, e.g. --set training.lr=3e-4; may be repeated.",
        show_default=False,
    ),
]
ShowConfig = Annotated[
    bool, typer.Option("--show-config", help="Print the resolved config and stop.")
]
SpotsDir = Annotated[
    Path | None,
    typer.Option("--spots", help="Folder that tcgn-mil spots wrote.", show_default="spots"),
]
MissingGenes = Annotated[
    str | None,
    typer.Option(
        help="Panel genes that a section did not measure: error, zero or drop.",
        show_default="error",
    ),
]
PatchPx = Annotated[
    int, typer.Option("--patch-px", help="Side of a patch or tile in stored pixels.")
]
PatchMpp = Annotated[
    float,
    typer.Option("--patch-mpp", help="Micrometres per stored pixel (px x mpp = field in µm)."),
]
Slides = Annotated[
    Path,
    typer.Argument(
        help="One slide, a folder, or a table with path[, slide_id, patient_id, mpp, site]."
    ),
]
SlideMpp = Annotated[
    float | None,
    typer.Option(
        "--mpp",
        help="µm per pixel of level 0, for slides that do not state it.",
        show_default=False,
    ),
]
