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
from tcgn_mil.errors import InputError
from tcgn_mil.experiments.associate.command import associate
from tcgn_mil.experiments.command_line.options import Out
from tcgn_mil.experiments.encode.command import encode
from tcgn_mil.experiments.explain.command import explain
from tcgn_mil.experiments.predict.command import predict
from tcgn_mil.experiments.prepare.slides import export_tiles, import_features, tile
from tcgn_mil.experiments.prepare.spots import spots
from tcgn_mil.experiments.prepare.tables import bulk, clinical
from tcgn_mil.experiments.report.command import report
from tcgn_mil.experiments.slide_level.command import finetune, slide_cross_validation
from tcgn_mil.experiments.spot_level.command import pretrain, spot_cross_validation
from tcgn_mil.experiments.survive.command import survive

app = typer.Typer(
    name="tcgn-mil",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Bulk gene expression from whole-slide images: pretrain TCGN on spatial transcriptomics, tile and encode"
    " slides, fine-tune attention pooling on bulk RNA-seq, predict cohorts.",
)

_OTHER_FOLDER = "give another --out, whose folder may be written"
_UNWRITABLE = {
    errno.EACCES: _OTHER_FOLDER,
    errno.EPERM: _OTHER_FOLDER,
    errno.EROFS: _OTHER_FOLDER,
    errno.ENOTDIR: "a part of the path is a file; give another",
    errno.EEXIST: "it is a file; give another --out",
    errno.EISDIR: "it is a folder; give the name of a file",
    errno.ENOSPC: "free some space and run it again",
    errno.EDQUOT: "free some space and run it again",
}


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
        sys.stderr.write(
            f"error: {where or 'the disk'}: {error.strerror}. Fix: {_UNWRITABLE[error.errno]}\n"
        )
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
    preset: Annotated[
        str, typer.Option(help="Size: demo (24 patients), study (60) or test (10).")
    ] = "demo",
    seed: Annotated[int, typer.Option(help="Seed of the cohort and of training.")] = 0,
) -> None:
    """Make a synthetic cohort and run every stage on it, up to report.html."""
    from tcgn_mil.experiments.demo.run import run_demo

    page = run_demo(out, preset_name=preset, seed=seed)
    typer.echo(f"\nSynthetic demo finished. Open {page}")


for _verb, _function in {
    "spots": spots,
    "pretrain": pretrain,
    "spot-cv": spot_cross_validation,
    "tile": tile,
    "encode": encode,
    "export-tiles": export_tiles,
    "import-features": import_features,
    "bulk": bulk,
    "clinical": clinical,
    "finetune": finetune,
    "slide-cv": slide_cross_validation,
    "predict": predict,
    "explain": explain,
    "associate": associate,
    "survive": survive,
    "report": report,
}.items():
    app.command(_verb)(_function)


if __name__ == "__main__":
    main()
