"""The command ``tcgn-mil``: one verb for each stage.

Nothing heavy is imported at the top, so that ``--help`` answers at once.
"""

from __future__ import annotations

import errno
import inspect
import logging
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from tcgn_mil.errors import InputError
from tcgn_mil.experiments.command_line.one_at_a_time import one_at_a_time
from tcgn_mil.experiments.command_line.options import Out
from tcgn_mil.experiments.command_line.process import (
    INTERRUPTED,
    InterruptedByUserError,
    check_launcher,
    interruptible,
    prepare_threads,
)
from tcgn_mil.experiments.report.command import report
from tcgn_mil.experiments.verbs import verbs
from tcgn_mil.version import __version__

_HELP = (
    "Predict bulk gene expression from whole-slide images: pretrain TCGN on spatial"
    " transcriptomics, tile and encode slides, train attention pooling on bulk RNA-seq, and predict"
    " cohorts."
)

_OTHER_FOLDER = "give --out a folder that can be written"
_MORE_SPACE = "free some space and run the command again"
_DRIVE = "see that the drive is there, and run the command again"
# Failures to write that the user can mend; other errors of the system are programming errors here.
_UNWRITABLE = {
    errno.EACCES: _OTHER_FOLDER,
    errno.EPERM: _OTHER_FOLDER,
    errno.EROFS: _OTHER_FOLDER,
    errno.ENOTDIR: "give another path; a part of this one is a file",
    errno.EEXIST: "give another --out; this one is a file",
    errno.EISDIR: "give the name of a file; this is a folder",
    errno.ENAMETOOLONG: "shorten this name; names of files have at most 255 bytes, in which an ä"
    " counts twice",
    errno.ELOOP: "make the link again; it leads back to itself",
    errno.ENOSPC: _MORE_SPACE,
    errno.EDQUOT: _MORE_SPACE,
    errno.EFBIG: "write to a disk that allows files of this size; see also ulimit -f",
    errno.EIO: _DRIVE,
    errno.ESTALE: _DRIVE,
    errno.ENOTCONN: _DRIVE,
    errno.ETIMEDOUT: _DRIVE,
    errno.EHOSTDOWN: _DRIVE,
}

SECONDS_BETWEEN_LOG_LINES = "30"


def main() -> None:
    """Run the command line.

    Bad input ends with one line on standard error and exit code 2, and Ctrl-C with one line and
    exit code 130.
    """
    prepare_threads()
    # tifffile writes a line for each damaged tag; the error of the reader is one line.
    logging.getLogger("tifffile").setLevel(logging.CRITICAL)
    if not sys.stderr.isatty():
        _slow_progress_for_a_log()
    try:
        check_launcher(next(iter(sys.argv[1:]), ""))
        with interruptible():
            make_app()()
    except InterruptedByUserError:
        sys.stderr.write("\nstopped by Ctrl-C. Run the same command again to continue.\n")
        sys.exit(INTERRUPTED)
    except InputError as error:
        sys.stderr.write(f"error: {error}\n")
        sys.exit(2)
    except OSError as error:
        if error.errno not in _UNWRITABLE:
            raise
        where = error.filename2 or error.filename or "the disk"
        sys.stderr.write(f"error: {where}: {error.strerror}. Fix: {_UNWRITABLE[error.errno]}\n")
        sys.exit(2)


def _slow_progress_for_a_log() -> None:
    """Let progress bars write a line now and then, since a log file keeps every line of them.

    A bar that ends before its first line is due writes none, such as that of a short epoch. tqdm
    reads these variables when it is first imported, which the verbs do later. A value that the
    user has set stays.
    """
    for name in ("TQDM_DELAY", "TQDM_MININTERVAL", "TQDM_MAXINTERVAL"):
        os.environ.setdefault(name, SECONDS_BETWEEN_LOG_LINES)


def make_app() -> typer.Typer:
    """Return the command line with all verbs that are registered (:mod:`.verbs`)."""
    app = typer.Typer(
        name="tcgn-mil",
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
        help=_HELP,
    )
    app.callback()(_root)
    app.command("demo")(one_at_a_time(demo))
    for verb in verbs():
        locks = not verb.shares_folder and "out" in inspect.signature(verb.command).parameters
        command = one_at_a_time(verb.command) if locks else verb.command
        app.command(verb.name, help=_help_of(verb.command))(command)
    app.command("report")(report)
    return app


def _help_of(command: Callable[..., Any]) -> str:
    """Return a docstring with each paragraph on one line, which the terminal then wraps itself."""
    paragraphs = inspect.cleandoc(command.__doc__ or "").split("\n\n")
    return "\n\n".join(" ".join(paragraph.split()) for paragraph in paragraphs)


def _print_version(asked: bool) -> None:
    if asked:
        typer.echo(f"tcgn-mil {__version__}")
        raise typer.Exit


def _root(
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Print the version."
        ),
    ] = False,
) -> None:
    """Take the options that come before the verb."""


def demo(
    out: Out = Path("demo"),
    preset: Annotated[
        str,
        typer.Option(
            help="Size: demo (60 patients with small slides), study (60, large) or test (10)."
        ),
    ] = "demo",
    seed: Annotated[int, typer.Option(help="Seed of the cohort and of training.")] = 0,
) -> None:
    """Make a synthetic cohort and run every verb but download on it, up to report.html."""
    from tcgn_mil.experiments.demo.run import run_demo

    page = run_demo(out, preset_name=preset, seed=seed)
    typer.echo(f"\nSynthetic demo finished. Open {page}")


if __name__ == "__main__":
    main()
