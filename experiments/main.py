"""The command ``tcgn-mil``: one verb for each stage.

Nothing heavy is imported at the top, so that ``--help`` answers at once.
"""

from __future__ import annotations

import errno
import inspect
import logging
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from tcgn_mil.errors import InputError, ReportedElsewhereError
from tcgn_mil.experiments.command_line.arguments import hoisted, verb_of, with_present_names
from tcgn_mil.experiments.command_line.error_codes import WRITE, code_of
from tcgn_mil.experiments.command_line.examples import EXAMPLES
from tcgn_mil.experiments.command_line.help_pages import EXIT_CODES, VerbCommand
from tcgn_mil.experiments.command_line.one_at_a_time import one_at_a_time
from tcgn_mil.experiments.command_line.options import Out
from tcgn_mil.experiments.command_line.process import (
    INTERRUPTED,
    InterruptedByUserError,
    check_launcher,
    interruptible,
    prepare_threads,
)
from tcgn_mil.experiments.command_line.session import Session
from tcgn_mil.experiments.report.command import report
from tcgn_mil.experiments.verbs import verbs
from tcgn_mil.types.processes import Processes
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


def main() -> None:
    """Run the command line.

    Bad input ends with one line on standard error and exit code 2, and Ctrl-C with one line and
    exit code 130.
    """
    prepare_threads()
    # tifffile writes a line for each damaged tag; the error of the reader is one line.
    logging.getLogger("tifffile").setLevel(logging.CRITICAL)
    arguments = with_present_names(hoisted(sys.argv[1:]))
    session = Session(arguments)
    try:
        check_launcher(verb_of(arguments), arguments)
        with interruptible():
            make_app()(args=arguments, obj=session)
    except SystemExit as ended:
        session.end(ended.code if isinstance(ended.code, int) else 0)
        raise
    except InterruptedByUserError:
        if Processes.launched().is_first:
            sys.stderr.write("\nstopped by Ctrl-C. Run the same command again to continue.\n")
        session.end(INTERRUPTED)
        sys.exit(INTERRUPTED)
    except ReportedElsewhereError:
        session.end(2)
        sys.exit(2)
    except InputError as error:
        if session.verbose:
            traceback.print_exc()
        session.end(2, {"code": code_of(error), "message": str(error)})
        sys.exit(2)
    except OSError as error:
        if error.errno not in _UNWRITABLE:
            session.end(1)
            raise
        where = error.filename2 or error.filename or "the disk"
        message = f"{where}: {error.strerror}. Fix: {_UNWRITABLE[error.errno]}"
        session.end(2, {"code": WRITE, "message": message})
        sys.exit(2)
    except Exception:
        session.end(1)
        raise


def make_app() -> typer.Typer:
    """Return the command line with all verbs that are registered (:mod:`.verbs`)."""
    app = typer.Typer(
        name="tcgn-mil",
        no_args_is_help=True,
        pretty_exceptions_enable=False,
        help=_HELP,
        epilog=EXIT_CODES,
    )
    app.callback()(_root)
    app.command("demo", cls=VerbCommand, epilog=_example(EXAMPLES["demo"]))(one_at_a_time(demo))
    for verb in verbs():
        locks = not verb.shares_folder and "out" in inspect.signature(verb.command).parameters
        command = one_at_a_time(verb.command) if locks else verb.command
        example = verb.example or EXAMPLES.get(verb.name, "")
        app.command(
            verb.name, cls=VerbCommand, help=_help_of(verb.command), epilog=_example(example)
        )(command)
    app.command("report", cls=VerbCommand, epilog=_example(EXAMPLES["report"]))(report)
    return app


def _help_of(command: Callable[..., Any]) -> str:
    """Return a docstring with each paragraph on one line, which the terminal then wraps itself."""
    paragraphs = inspect.cleandoc(command.__doc__ or "").split("\n\n")
    return "\n\n".join(" ".join(paragraph.split()) for paragraph in paragraphs)


def _example(command: str) -> str | None:
    return f"Example: {command}" if command else None


def _print_version(asked: bool) -> None:
    if asked:
        typer.echo(f"tcgn-mil {__version__}")
        raise typer.Exit


def _root(
    ctx: typer.Context,
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Print the version."
        ),
    ] = False,
    quiet: Annotated[
        bool, typer.Option("--quiet", help="Show no progress. Results and warnings are printed.")
    ] = False,
    verbose: Annotated[
        bool,
        typer.Option(
            "--verbose",
            help="Also show warnings of other packages, and where in the code an error arose.",
        ),
    ] = False,
    as_json: Annotated[
        bool,
        typer.Option(
            "--json",
            help="Print one JSON object at the end, with the exit code, the summary and the error,"
            " instead of text.",
        ),
    ] = False,
    log_file: Annotated[
        Path | None,
        typer.Option(
            "--log-file",
            help="Also append all that is printed to this file, with the time of each line.",
            dir_okay=False,
            show_default=False,
        ),
    ] = None,
) -> None:
    """Take the options that hold for every verb; they may also stand after the verb."""
    if isinstance(ctx.obj, Session):
        ctx.obj.apply(quiet=quiet, verbose=verbose, as_json=as_json, log_file=log_file)


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
    """Make a synthetic cohort and run all stages on it, from sections to report.html."""
    from tcgn_mil.experiments.demo.synthetic import preset as sizes_of

    sizes_of(preset, seed=seed)  # refuses an unknown name before torch is loaded
    from tcgn_mil.experiments.demo.run import run_demo

    page = run_demo(out, preset_name=preset, seed=seed)
    typer.echo(f"\nSynthetic demo finished. Open {page}")


if __name__ == "__main__":
    main()
