"""Build a config from the options of a verb, print results, and choose the exit code."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import typer

from tcgn_mil.errors import InputError
from tcgn_mil.experiments.command_line.early import refuse_beside_compare
from tcgn_mil.io.failures import Failure, LeftOut, describe_left_out, write_left_out
from tcgn_mil.text import counted, preview

ConfigT = TypeVar("ConfigT")


def resolve(
    config_class: type[ConfigT],
    given: Mapping[str, Any],
    *,
    path: Path | None = None,
    overrides: Sequence[str] | None = None,
    preset: Mapping[str, Any] | None = None,
) -> ConfigT:
    """Build a config from defaults, a file, a preset, options and ``--set``, later ones winning.

    Parameters
    ----------
    config_class
        Class made by :func:`tcgn_mil.config.config_class`.
    given
        Values of the options by config key; None means that the option was not given.
    path
        YAML file given with ``--config``.
    overrides
        Strings given with ``--set``.
    preset
        Values of a preset.
    """
    import json

    from tcgn_mil.config import resolve_config

    options = [
        f"{key}={json.dumps(_plain(value))}" for key, value in given.items() if value is not None
    ]
    return resolve_config(
        config_class, yaml_path=path, overrides=[*options, *(overrides or [])], preset=preset
    )


def _plain(value: Any) -> Any:
    """Return a value that JSON knows; paths become text."""
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    return value if isinstance(value, (bool, int, float, str)) else str(value)


def compare_and_print(
    compare_runs: Callable[..., list[dict[str, Any]]],
    compare: tuple[Path, Path],
    out: Path,
    others: Sequence[Any],
) -> None:
    """Compare two finished runs; refuse other options, which would have no effect."""
    refuse_beside_compare(others)
    print_rows(compare_runs(*compare, out))
    typer.echo(f"The comparison gene by gene is in {out / 'comparison.csv'}")


def print_config(config: Any) -> None:
    """Print a resolved config as YAML."""
    import yaml

    from tcgn_mil.config import as_plain

    typer.echo(yaml.safe_dump(as_plain(config), sort_keys=False, allow_unicode=True))


def print_rows(rows: list[dict[str, Any]]) -> None:
    """Print a table of results; unknown numbers appear as NA."""
    import pandas as pd

    table = pd.DataFrame(rows).map(lambda value: float("nan") if value is None else value)
    typer.echo(table.to_string(index=False, na_rep="NA", float_format=lambda value: f"{value:.3f}"))


def warn_of_leakage(summary: Mapping[str, Any]) -> None:
    """Warn on standard error if patients of the test part were also trained on."""
    if leaked := summary["patient_leakage"]:
        typer.echo(f"patient leakage: {preview(leaked)} tested on and also trained on", err=True)


def report_left_out(left_out: Sequence[LeftOut], out: Path) -> None:
    """Count on standard error what was left out, and list it in ``<out>/left_out.csv``."""
    for sentence in describe_left_out(left_out):
        typer.echo(sentence, err=True)
    write_left_out(out, left_out)


def keep_cohort(
    out: Path,
    source: Path,
    members: Sequence[str],
    files_of: Callable[[str], Sequence[Path]],
    *,
    choice: str = "",
) -> None:
    """Set aside the files of slides that left a cohort, and say so on standard error.

    Parameters
    ----------
    out
        Output folder.
    source, members, choice
        Folder or table of slides, all slides that it lists, and the options that chose among them
        (:func:`~tcgn_mil.resume.cohort_list.plan_cohort`).
    files_of
        Returns the files of a slide, the one that marks it as finished last.
    """
    from tcgn_mil.resume.cohort_list import plan_cohort

    planned = plan_cohort(out, source, members, choice=choice)
    planned.apply(files_of)
    for sentence in planned.sentences():
        typer.echo(sentence, err=True)


def finish_cohort(
    done: int, failures: Sequence[Failure], out: Path, *, what: str, unit: str = "slide"
) -> None:
    """Print how many slides are done; exit with code 1 if some failed.

    Parameters
    ----------
    done
        Number of slides (or other `unit`) that succeeded.
    failures
        Those that failed.
    out
        Folder that was written.
    what
        What was done with them, for example ``encoded``.
    unit
        Name of one item.

    Raises
    ------
    InputError
        If all failed: the reason of the first.
    typer.Exit
        With code 1 if some failed.
    """
    if failures and not done:
        first = failures[0]
        others = len(failures) - 1
        rest = f" (and {others} more, see {out / 'failures.csv'})" if others else ""
        reason = f"{unit} {first.slide}: {first.reason.rstrip('.')}{rest}"
        raise InputError(reason, fix=first.likely_fix or None)
    typer.echo(f"{counted(done, unit)} {what}: {out}")
    if failures:
        failed = counted(len(failures), unit)
        typer.echo(f"{failed} failed, listed in {out / 'failures.csv'}", err=True)
        raise typer.Exit(1)
