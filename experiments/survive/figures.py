"""Draw the figures of ``tcgn-mil survive``: survival curves, C, hazard ratios, accuracy, screen."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.font_manager import FontProperties
from matplotlib.textpath import TextPath
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from tcgn_mil import plotting
from tcgn_mil.experiments.survive.cross_validate import CvRepeat
from tcgn_mil.experiments.survive.regression_tables import SCORE
from tcgn_mil.experiments.survive.tables import SCREEN_PREFIX
from tcgn_mil.plotting import COLOURS, GREY, PatientGroup, figure_label, plain_text, save_figure
from tcgn_mil.types.outcomes import DAYS_PER_YEAR, SurvivalTable

_TICKS = 6
# The screen's figure names at most 10 genes, chosen among the 60 with the smallest p.
_LABELLED_GENES, _TRIED_LABELS = 10, 60
# Hazard ratios beyond this (or below its inverse) are cut, so that one interval does not squeeze
# all the others.
_MAX_RATIO = 64.0
# Ticks of hazard ratios, and those of an axis that spans less than a factor of `_NARROW`.
_RATIO_TICKS = (0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50)
_CLOSE_TICKS, _NARROW = (0.25, 0.5, 0.67, 0.8, 1, 1.25, 1.5, 2, 3, 4), 8
_LONGEST_LABEL = 46
_GROUPS = (("above median", COLOURS[1]), ("at or below", COLOURS[0]))
_END = (
    f"curves end where fewer than {plotting.FEWEST_AT_RISK} patients or"
    f" {plotting.LEAST_SHARE_AT_RISK:.0%} of a group are at risk; ticks: censored"
)


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


@plotting.styled
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
    figure = plotting.new_figure(plotting.TWO_COLUMNS * columns / 2, 2.9 * rows + 0.3)
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
        axis.set(ylabel=f"{plain_text(plotting.endpoint_label(table.endpoint))} (95 % band)")
        axis.set_title(f"{plain_text(name)}\n{said}log-rank {_p(row['p'])}")
    figure.suptitle(
        f"{_cohort(table)}; scores out of fold, cut at the training median\n{_END}"
        if columns > 1
        else f"{_cohort(table)}\nscores out of fold, cut at the training median"
    )
    save_figure(figure, path, pd.concat(drawn))


def _draw_groups(axis: Axes, below: Axes, parts: list[SurvivalTable]) -> pd.DataFrame:
    """Draw the curves of both groups and the numbers at risk; return one row for each step."""
    last = max(plotting.last_drawn_day(part) for part in parts) / DAYS_PER_YEAR
    ticks = plotting.year_ticks(last, MaxNLocator(_TICKS, integer=last > 2))
    groups = [
        PatientGroup(part, label, colour)
        for part, (label, colour) in zip(parts, _GROUPS, strict=True)
    ]
    drawn = plotting.kaplan_meier(axis, groups, ticks=ticks, below=below)
    axis.set(xlim=(-0.03 * last, 1.02 * last))
    axis.tick_params(labelbottom=False)
    below.set_xlabel("time (years), and patients at risk")
    return drawn


@plotting.styled
def draw_concordance(rows: pd.DataFrame, path: Path, *, title: str) -> None:
    """Draw C of each model with its interval; a dotted line marks chance."""
    figure, axis = plotting.subplots(width=4.6, height=0.9 + 0.32 * len(rows))
    at = np.arange(len(rows))[::-1]
    axis.hlines(at, rows["low"], rows["high"], color=COLOURS[0], linewidth=1.6)
    axis.plot(rows["c"], at, "o", color=COLOURS[0])
    for height, (_, row) in zip(at, rows.iterrows(), strict=True):
        axis.annotate(
            f"{row['c']:.3f}",
            (row["c"], height),
            xytext=(0, 4),
            textcoords="offset points",
            ha="center",
            fontsize=7,
        )
    axis.axvline(0.5, color="black", linewidth=0.7, linestyle=":")
    axis.set(
        yticks=at,
        yticklabels=[plain_text(name) for name in rows["model"]],
        ylim=(-0.6, len(rows) - 0.3),
        xlabel="Harrell's C within folds, out of fold (95 % bootstrap over patients)",
    )
    axis.set_title(title)
    save_figure(figure, path, rows)


@plotting.styled
def draw_forest(rows: pd.DataFrame, path: Path, *, title: str) -> None:
    """Draw hazard ratios with their intervals, in one block per model; each row names its unit."""
    lines: list[tuple[str, Any]] = []
    rows = _in_drawn_unit(rows)
    for model, block in rows.groupby("model", sort=False):
        lines += [
            (str(model), None),
            *((f"   {_with_unit(row)}", row) for _, row in block.iterrows()),
        ]
    figure, axis = plotting.subplots(width=plotting.TWO_COLUMNS, height=0.9 + 0.19 * len(lines))
    limits = (
        max(rows["low"].min(), 1 / _MAX_RATIO) / 1.02,
        min(rows["high"].max(), _MAX_RATIO) * 1.02,
    )
    limits = (min(limits[0], 0.98), max(limits[1], 1.02))
    for height, (_, row) in zip(range(len(lines))[::-1], lines, strict=True):
        if row is not None:
            _draw_ratio(axis, height, row, limits)
    axis.axvline(1, color="black", linewidth=0.7, linestyle=":")
    axis.set_xscale("log")
    possible = _CLOSE_TICKS if limits[1] < _NARROW * limits[0] else _RATIO_TICKS
    ticks = [tick for tick in possible if limits[0] <= tick <= limits[1]]
    axis.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    axis.set_xticks([], minor=True)
    axis.set(
        xlim=limits,
        yticks=range(len(lines))[::-1],
        ylim=(-0.7, len(lines) - 0.3),
        xlabel="hazard ratio (95 % interval)",
    )
    labels = [figure_label(label, _LONGEST_LABEL) for label, _ in lines]
    axis.set_yticklabels(labels, ha="left")
    for label, (_, row) in zip(axis.get_yticklabels(), lines, strict=True):
        label.set_fontweight("bold" if row is None else "normal")
    axis.tick_params(axis="y", length=0, pad=_width_pt(labels) + 6)
    axis.set_title(f"{title}; scores stratified by fold")
    axis.spines["left"].set_visible(False)
    save_figure(figure, path, rows)


def _draw_ratio(axis: Axes, height: int, row: pd.Series, limits: tuple[float, float]) -> None:
    """Draw a hazard ratio and its interval; an arrow shows that the interval goes on."""
    low, high = (float(np.clip(row[side], *limits)) for side in ("low", "high"))
    axis.hlines(height, low, high, color=COLOURS[0], linewidth=1.3)
    for end, cut, marker in ((low, row["low"] < low, "<"), (high, row["high"] > high, ">")):
        if cut:
            axis.plot(end, height, marker, color=COLOURS[0], markersize=4, clip_on=False)
    axis.plot(
        float(np.clip(row["hazard_ratio"], *limits)), height, "s", color=COLOURS[0], markersize=4
    )
    said = f"{row['hazard_ratio']:.2f} ({row['low']:.2f} to {row['high']:.2f})  {_p(row['p'])}"
    axis.text(1.02, height, said, transform=axis.get_yaxis_transform(), va="center", fontsize=7)


def _in_drawn_unit(rows: pd.DataFrame) -> pd.DataFrame:
    """Return the rows with ratios per standard deviation where `per` says so."""
    per_sd = rows["per"] == "sd"
    columns = ("hazard_ratio", "low", "high")
    drawn = {name: rows[name].where(~per_sd, rows[f"{name}_per_sd"]) for name in columns}
    return rows.assign(**drawn)


def _with_unit(row: pd.Series) -> str:
    """Return a covariate with the difference between patients that its ratio is for."""
    name = str(row["covariate"])
    if row["per"] == "sd":
        return f"{name}, per sd ({row['sd']:.3g})"
    if name.endswith(SCORE):
        return f"{name}, per training sd"
    # The name of a level is that of its column and the level in brackets.
    return f"{name}, against most common" if name.endswith("]") else f"{name}, per unit"


def _width_pt(labels: Sequence[str]) -> float:
    """Return the width of the longest label in points, which the axis needs on its left."""
    size = matplotlib.rcParams["ytick.labelsize"]
    font = FontProperties(size=size, weight="bold")
    return max(TextPath((0, 0), label or " ", prop=font).get_extents().width for label in labels)


@plotting.styled
def draw_accuracy(rows: pd.DataFrame, path: Path) -> None:
    """Draw AUC and Brier score over time, beside the Brier score of the Kaplan-Meier curve."""
    figure, axes = plotting.subplots(1, 2, width=plotting.TWO_COLUMNS, height=2.4)
    for index, (name, part) in enumerate(rows.groupby("model", sort=False)):
        colour = COLOURS[index % len(COLOURS)]
        for axis, column in zip(axes, ("auc", "brier"), strict=True):
            axis.plot(
                part["days"] / DAYS_PER_YEAR,
                part[column],
                "o-",
                color=colour,
                markersize=4,
                label=plain_text(name),
            )
    null = rows.groupby("days")["brier_null"].first()
    axes[1].plot(null.index / DAYS_PER_YEAR, null, "k:", label="Kaplan-Meier curve of all")
    axes[0].axhline(0.5, color="black", linewidth=0.7, linestyle=":")
    axes[0].set(xlabel="time (years)", ylabel="time-dependent AUC, mean of folds")
    axes[1].set(xlabel="time (years)", ylabel="Brier score (lower is better)")
    years = np.unique(rows["days"]) / DAYS_PER_YEAR
    for axis in axes:
        # Ticks where something was measured; the room keeps a single time from filling the axis.
        axis.set_xticks(years, [f"{year:.3g}" for year in years])
        axis.set_xlim(min(0.0, years.min()), 1.15 * years.max())
    figure.legend(*axes[1].get_legend_handles_labels(), loc="outside right upper")
    save_figure(figure, path, rows)


@plotting.styled
def draw_screen(rows: pd.DataFrame, path: Path, *, source: str) -> None:
    """Draw hazard ratio against p-value of every gene, marked as exploratory.

    The genes with the smallest p are named, as far as their labels do not overlap.
    """
    figure, axis = plotting.subplots(width=4.6, height=3.4)
    fitted = rows[rows["p"].notna()]
    effect = np.log2(fitted["hazard_ratio_per_sd"])
    height = -np.log10(np.maximum(fitted["p"], 1e-300))
    significant = (fitted["q"] < 0.05).to_numpy()
    for chosen, colour, label in (
        (~significant, GREY, f"{int((~significant).sum())} others"),
        (significant, COLOURS[1], f"{int(significant.sum())} with q < 0.05"),
    ):
        axis.plot(
            effect[chosen], height[chosen], ".", color=colour, markersize=3, alpha=0.7, label=label
        )
    labelled: list[tuple[float, float]] = []
    for gene, *at in zip(fitted["gene"].iloc[:_TRIED_LABELS], effect, height, strict=False):
        if len(labelled) < _LABELLED_GENES and all(
            _apart(at, other, effect, height) for other in labelled
        ):
            labelled.append((at[0], at[1]))
            axis.annotate(
                plain_text(gene),
                labelled[-1],
                xytext=(4, 2),
                textcoords="offset points",
                fontsize=6.5,
            )
    axis.axvline(0, color="black", linewidth=0.6)
    axis.set(
        xlabel="log2 hazard ratio per sd of the gene over patients", ylabel="−log10 p (Wald test)"
    )
    axis.set_title(
        f"exploratory: univariable Cox of {len(fitted)} genes, {plain_text(source)} expression,\n"
        "judged on the patients they were found on"
    )
    axis.legend()
    save_figure(figure, path, fitted)


def _apart(
    at: Sequence[float], other: Sequence[float], effect: pd.Series, height: pd.Series
) -> bool:
    """Return whether two labels are a sixth of the width or a twentieth of the height apart."""
    return abs(at[0] - other[0]) > np.ptp(effect) / 6 or abs(at[1] - other[1]) > np.ptp(height) / 20


def _cohort(table: SurvivalTable) -> str:
    name = plain_text(table.endpoint)
    return f"{name}, n = {len(table):,} patients, {int(table.event.sum()):,} events"


def _p(p: float) -> str:
    return "p NA" if pd.isna(p) else f"p {p:.2g}" if p >= 1e-4 else "p < 0.0001"
