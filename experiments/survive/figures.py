"""Draw the figures of ``tcgn-mil survive``: survival curves, C, hazard ratios, accuracy, screen."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from tcgn_mil.experiments.survive.cross_validate import CvRepeat
from tcgn_mil.experiments.survive.tables import SCREEN_PREFIX
from tcgn_mil.plotting import COLOURS, PatientGroup, kaplan_meier, plt, save_figure, year_ticks
from tcgn_mil.types.outcomes import DAYS_PER_YEAR, SurvivalTable

_TICKS = 6
# The screen's figure names at most 10 genes, chosen among the 60 with the smallest p.
_LABELLED_GENES, _TRIED_LABELS = 10, 60
# Hazard ratios beyond this (or below its inverse) are cut, so that one interval does not squeeze
# all the others.
_MAX_RATIO = 64.0
_GROUPS = (("above the training median", COLOURS[1]), ("at or below", COLOURS[0]))


def draw_all(
    table: SurvivalTable, repeat: CvRepeat, tables: Mapping[str, pd.DataFrame], out_dir: Path
) -> None:
    """Draw every figure for which the tables have data.

    Parameters
    ----------
    table
        Outcome of the patients.
    repeat
        Cross-validation whose scores divide the patients into groups.
    tables
        Tables of the run, by file name without suffix.
    out_dir
        Folder of the run.
    """
    draw_curves(table, repeat.risk, tables["groups"], out_dir / "kaplan_meier.png")
    draw_concordance(tables["concordance"], out_dir / "concordance.png", title=_cohort(table))
    if len(tables["hazard_ratios"]):
        draw_forest(tables["hazard_ratios"], out_dir / "forest.png", title=_cohort(table))
    if len(tables["accuracy"]) and tables["accuracy"]["auc"].notna().any():
        draw_accuracy(tables["accuracy"], out_dir / "accuracy.png")
    for name, screen in tables.items():
        if name.startswith(SCREEN_PREFIX) and screen["p"].notna().any():
            draw_screen(screen, out_dir / f"{name}.png", source=name.removeprefix(SCREEN_PREFIX))


def draw_curves(
    table: SurvivalTable, risks: Mapping[str, NDArray[np.float64]], groups: pd.DataFrame, path: Path
) -> None:
    """Draw Kaplan-Meier curves of patients above and below the training median, a panel per model.

    Parameters
    ----------
    table
        Outcome of the M patients.
    risks
        (M,) out-of-fold score by model; 0 is the training median. A model that puts all patients
        into one group gets no panel.
    groups
        Table of the groups, for the hazard ratio and the p-value above each panel.
    path
        Figure to write.
    """
    shown = [name for name, risk in risks.items() if 0 < (risk > 0).sum() < len(risk)]
    if not shown:
        return
    columns = min(2, len(shown))
    rows = math.ceil(len(shown) / columns)
    figure = plt.figure(figsize=(4.6 * columns, 4.1 * rows), layout="constrained")
    parts = figure.subfigures(rows, columns, squeeze=False)
    drawn = []
    for part, name in zip(parts.flat, shown, strict=False):
        axis, below = part.subplots(2, 1, height_ratios=(4.5, 1), sharex=True)
        high = risks[name] > 0
        drawn.append(
            _draw_groups(axis, below, [table.take(high), table.take(~high)]).assign(model=name)
        )
        row = groups.set_index("model").loc[name]
        ratio = row.get("hazard_ratio")
        said = (
            ""
            if ratio is None or pd.isna(ratio)
            else f"HR {ratio:.2f} ({row['hr_low']:.2f} to {row['hr_high']:.2f}), "
        )
        axis.set_title(f"{name}\n{said}log-rank {_p(row['p'])}", fontsize=9)
    figure.suptitle(f"{_cohort(table)}; scores out of fold, cut at the training median", fontsize=9)
    save_figure(figure, path, pd.concat(drawn))


def _draw_groups(axis: Axes, below: Axes, parts: list[SurvivalTable]) -> pd.DataFrame:
    """Draw the curves of both groups and the numbers at risk; return one row for each step."""
    last = max(float(part.time_days.max()) for part in parts) / DAYS_PER_YEAR
    ticks = year_ticks(last, MaxNLocator(_TICKS, integer=True))
    groups = [
        PatientGroup(part, label, colour)
        for part, (label, colour) in zip(parts, _GROUPS, strict=True)
    ]
    drawn = kaplan_meier(axis, groups, ticks=ticks, below=below)
    axis.set(xlim=(-0.03 * last, 1.02 * last), ylabel="without the event (95 % band)")
    axis.legend(frameon=False, fontsize=8, loc="lower left")
    below.set_xlabel("years, and patients at risk")
    return drawn


def draw_concordance(rows: pd.DataFrame, path: Path, *, title: str) -> None:
    """Draw C of each model with its interval; a dotted line marks chance."""
    figure, axis = plt.subplots(figsize=(6.2, 1.3 + 0.42 * len(rows)), layout="constrained")
    at = np.arange(len(rows))[::-1]
    axis.hlines(at, rows["low"], rows["high"], color=COLOURS[0], linewidth=1.6)
    axis.plot(rows["c"], at, "o", color=COLOURS[0])
    for height, (_, row) in zip(at, rows.iterrows(), strict=True):
        axis.annotate(
            f"{row['c']:.3f}",
            (row["c"], height),
            xytext=(0, 6),
            textcoords="offset points",
            ha="center",
            fontsize=8,
        )
    axis.axvline(0.5, color="black", linewidth=0.7, linestyle=":")
    axis.set(
        yticks=at,
        yticklabels=list(rows["model"]),
        ylim=(-0.6, len(rows) - 0.3),
        xlabel="Harrell's C within folds, out of fold (95 % bootstrap over patients)",
    )
    axis.set_title(title, fontsize=9)
    axis.spines[["top", "right"]].set_visible(False)
    save_figure(figure, path, rows)


def draw_forest(rows: pd.DataFrame, path: Path, *, title: str) -> None:
    """Draw hazard ratios with their intervals, in one block per model."""
    lines: list[tuple[str, Any]] = []
    rows = _in_drawn_unit(rows)
    for model, block in rows.groupby("model", sort=False):
        lines += [
            (str(model), None),
            *((f"   {_with_unit(row)}", row) for _, row in block.iterrows()),
        ]
    figure, axis = plt.subplots(figsize=(8.4, 1.2 + 0.27 * len(lines)), layout="constrained")
    limits = (
        max(rows["low"].min(), 1 / _MAX_RATIO) / 1.02,
        min(rows["high"].max(), _MAX_RATIO) * 1.02,
    )
    limits = (min(limits[0], 0.98), max(limits[1], 1.02))
    for height, (_, row) in zip(range(len(lines))[::-1], lines, strict=True):
        if row is None:
            continue
        low, high = (float(np.clip(row[side], *limits)) for side in ("low", "high"))
        axis.hlines(height, low, high, color=COLOURS[0], linewidth=1.5)
        axis.plot(
            float(np.clip(row["hazard_ratio"], *limits)),
            height,
            "s",
            color=COLOURS[0],
            markersize=5,
        )
        said = f"{row['hazard_ratio']:.2f} ({row['low']:.2f} to {row['high']:.2f})  {_p(row['p'])}"
        axis.text(1.02, height, said, transform=axis.get_yaxis_transform(), va="center", fontsize=8)
    axis.axvline(1, color="black", linewidth=0.7, linestyle=":")
    axis.set_xscale("log")
    ticks = [
        tick
        for tick in (0.1, 0.2, 0.5, 0.8, 1, 1.25, 1.5, 2, 3, 5, 10, 20, 50)
        if limits[0] <= tick <= limits[1]
    ]
    axis.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    axis.set_xticks([], minor=True)
    axis.set(
        xlim=limits,
        yticks=range(len(lines))[::-1],
        ylim=(-0.7, len(lines) - 0.3),
        xlabel="hazard ratio (95 %): numbers per sd, groups against the others; scores per"
        " training sd, stratified by fold",
    )
    axis.set_yticklabels([label for label, _ in lines], ha="left", fontsize=8)
    axis.tick_params(axis="y", length=0, pad=_label_room(lines))
    axis.set_title(title, fontsize=9)
    axis.spines[["top", "right", "left"]].set_visible(False)
    save_figure(figure, path, rows)


def _in_drawn_unit(rows: pd.DataFrame) -> pd.DataFrame:
    """Return the rows with ratios per standard deviation where `per` says so."""
    per_sd = rows["per"] == "sd"
    columns = ("hazard_ratio", "low", "high")
    drawn = {name: rows[name].where(~per_sd, rows[f"{name}_per_sd"]) for name in columns}
    return rows.assign(**drawn)


def _with_unit(row: pd.Series) -> str:
    return f"{row['covariate']} (per sd)" if row["per"] == "sd" else str(row["covariate"])


def _label_room(lines: list[tuple[str, Any]]) -> float:
    """Return the width of the longest label in points; the mean letter is about 5 points wide."""
    return 5.0 * max(len(label) for label, _ in lines) + 8


def draw_accuracy(rows: pd.DataFrame, path: Path) -> None:
    """Draw AUC and Brier score over time, beside the Brier score of the Kaplan-Meier curve."""
    figure, axes = plt.subplots(1, 2, figsize=(9.2, 3.4), layout="constrained")
    for index, (name, part) in enumerate(rows.groupby("model", sort=False)):
        colour = COLOURS[index % len(COLOURS)]
        for axis, column in zip(axes, ("auc", "brier"), strict=True):
            axis.plot(
                part["days"] / DAYS_PER_YEAR,
                part[column],
                "o-",
                color=colour,
                markersize=4,
                label=str(name),
            )
    null = rows.groupby("days")["brier_null"].first()
    axes[1].plot(null.index / DAYS_PER_YEAR, null, "k:", label="Kaplan-Meier curve of all")
    axes[0].axhline(0.5, color="black", linewidth=0.7, linestyle=":")
    axes[0].set(xlabel="years", ylabel="time-dependent AUC, mean of folds")
    axes[1].set(xlabel="years", ylabel="Brier score (lower is better)")
    for axis in axes:
        axis.spines[["top", "right"]].set_visible(False)
    figure.legend(
        *axes[1].get_legend_handles_labels(), frameon=False, fontsize=8, loc="outside right upper"
    )
    save_figure(figure, path, rows)


def draw_screen(rows: pd.DataFrame, path: Path, *, source: str) -> None:
    """Draw hazard ratio against p-value of every gene, marked as exploratory.

    The genes with the smallest p are named, as far as their labels do not overlap.
    """
    figure, axis = plt.subplots(figsize=(6, 4.4), layout="constrained")
    fitted = rows[rows["p"].notna()]
    effect = np.log2(fitted["hazard_ratio_per_sd"])
    height = -np.log10(np.maximum(fitted["p"], 1e-300))
    significant = (fitted["q"] < 0.05).to_numpy()
    for chosen, colour, label in (
        (~significant, COLOURS[2], f"{int((~significant).sum())} others"),
        (significant, COLOURS[1], f"{int(significant.sum())} with q < 0.05"),
    ):
        axis.plot(
            effect[chosen], height[chosen], ".", color=colour, markersize=4, alpha=0.7, label=label
        )
    labelled: list[tuple[float, float]] = []
    for gene, *at in zip(fitted["gene"].iloc[:_TRIED_LABELS], effect, height, strict=False):
        if len(labelled) < _LABELLED_GENES and all(
            _apart(at, other, effect, height) for other in labelled
        ):
            labelled.append((at[0], at[1]))
            axis.annotate(
                str(gene),
                labelled[-1],
                xytext=(4, 2),
                textcoords="offset points",
                fontsize=7,
            )
    axis.axvline(0, color="black", linewidth=0.6)
    axis.set(xlabel="log2 hazard ratio per sd", ylabel="-log10 p")
    axis.set_title(
        f"exploratory: univariable Cox of {len(fitted)} genes, {source} expression,\n"
        "judged on the patients they were found on",
        fontsize=9,
    )
    axis.legend(frameon=False, fontsize=8)
    axis.spines[["top", "right"]].set_visible(False)
    save_figure(figure, path, fitted)


def _apart(
    at: Sequence[float], other: Sequence[float], effect: pd.Series, height: pd.Series
) -> bool:
    """Return whether two labels are a sixth of the width or a twentieth of the height apart."""
    return abs(at[0] - other[0]) > np.ptp(effect) / 6 or abs(at[1] - other[1]) > np.ptp(height) / 20


def _cohort(table: SurvivalTable) -> str:
    return f"{table.endpoint}, {len(table)} patients, {int(table.event.sum())} events"


def _p(p: float) -> str:
    return "p NA" if pd.isna(p) else f"p {p:.2g}" if p >= 1e-4 else "p < 0.0001"
