"""What the verbs of the command line share: settings from options, what is printed at the end, exit codes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import typer

from tcgn_mil.errors import InputError
from tcgn_mil.io.failures import Failure
from tcgn_mil.text import preview


def resolve(
    config_class: type,
    path: Path | None,
    overrides: list[str] | None,
    given: dict[str, Any],
    *,
    preset: Mapping[str, Any] | None = None,
) -> Any:
    """Config from defaults, YAML, a preset, the paths and names given as options, and --set, in rising precedence."""
    import json

    from tcgn_mil.config import resolve_config

    options = [
        f"{key}={json.dumps([str(item) for item in value] if isinstance(value, list) else str(value))}"
        for key, value in given.items()
        if value is not None
    ]
    return resolve_config(
        config_class, yaml_path=path, overrides=[*options, *(overrides or [])], preset=preset
    )


def compare_and_print(
    compare_runs: Any, compare: tuple[Path, Path], out: Path, others: Sequence[Any]
) -> None:
    """Put two finished runs side by side; whatever else is given would be ignored, and is refused."""
    if any(value not in (None, False) for value in others):
        raise InputError(
            "--compare reads two finished runs and takes no option but --out", fix="drop the others"
        )
    print_rows(compare_runs(*compare, out))
    typer.echo(f"gene by gene: {out / 'comparison.csv'}")


def print_config(config: Any) -> None:
    """Print a resolved config as YAML."""
    import yaml

    from tcgn_mil.config import as_plain

    typer.echo(yaml.safe_dump(as_plain(config), sort_keys=False, allow_unicode=True))


def print_rows(rows: list[dict[str, Any]]) -> None:
    """Print a table of results."""
    import pandas as pd

    table = pd.DataFrame(rows).map(lambda value: float("nan") if value is None else value)
    typer.echo(table.to_string(index=False, na_rep="NA", float_format=lambda value: f"{value:.3f}"))


def warn_of_leakage(summary: dict[str, Any]) -> None:
    """Label a result whose test patients were also trained on."""
    if summary["patient_leakage"]:
        typer.echo(
            f"patient leakage: {preview(summary['patient_leakage'])} tested on and also trained on",
            err=True,
        )


def finish_cohort(
    done: int, failures: list[Failure], out: Path, *, what: str, unit: str = "slide"
) -> None:
    """Say what was done; exit 1 if some slides (or other `unit`) failed, raise the reason if all did."""
    if failures and not done:
        first = failures[0]
        others = (
            f" (and {len(failures) - 1} more {unit}s, see {out / 'failures.csv'})"
            if len(failures) > 1
            else ""
        )
        raise InputError(
            f"{unit} {first.slide}: {first.reason.rstrip('.')}{others}",
            fix=first.likely_fix or None,
        )
    typer.echo(f"{done} {what}: {out}")
    if failures:
        typer.echo(f"{len(failures)} {unit}s failed, listed in {out / 'failures.csv'}", err=True)
        raise typer.Exit(1)
