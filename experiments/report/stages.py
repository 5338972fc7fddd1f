"""Tell in the report what each stage did, in the order of the work, with links to its files.

Stages that are runs say it themselves (``sentence`` and ``files`` of their report part). Those that
prepare data leave no run; what they did is read from the tables that they wrote.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from tcgn_mil.checkpoints.published import DIGESTS
from tcgn_mil.errors import InputError
from tcgn_mil.experiments.runs.finished_run import Run, files_below, read_result_table
from tcgn_mil.experiments.runs.page import Link, Stage
from tcgn_mil.experiments.runs.report_part import ReportPart
from tcgn_mil.file_formats.json_file import read_json
from tcgn_mil.io.failures import FILE_NAME as FAILURES_NAME
from tcgn_mil.io.failures import LEFT_OUT_NAME, LeftOut, describe_left_out
from tcgn_mil.io.feature_files import read_feature_info
from tcgn_mil.text import counted

_AGAIN = "run the command that wrote it again"

# Order in which the stages of the whole chain are done. Stages of other packages come last.
_ORDER = (
    "spots",
    "pretrain",
    "spot-cv",
    "tile",
    "export-tiles",
    "encode",
    "import-features",
    "bulk",
    "clinical",
    "finetune",
    "slide-cv",
    "predict",
    "explain",
    "associate",
    "survive",
    "publish",
    "export-predictions",
)
_MOST_NOTES = 5
_MAPS = "maps"  # predict's folder; its GeoJSON files are maps and no exported tiles


def stages_of(
    folders: Sequence[Path], runs: Sequence[Run], parts: Mapping[str, ReportPart]
) -> list[Stage]:
    """Return what each stage did.

    Parameters
    ----------
    folders
        Folders that are searched for what the stages without runs wrote.
    runs
        Runs on the page.
    parts
        Parts of the report by kind of run.
    """
    finders: tuple[Callable[[Sequence[Path]], Iterator[Stage]], ...] = (
        _sections,
        _tiles,
        _exported_tiles,
        _joins,
        _clinical_tables,
        _shared,
    )
    stages = [stage for find in finders for stage in find(folders)]
    stages += _features(runs)
    stages += [stage for run in runs if (stage := _of_run(run, parts[run.kind])) is not None]
    rank = {name: index for index, name in enumerate(_ORDER)}
    # A run of several has its name after that of the verb.
    return sorted(stages, key=lambda stage: rank.get(stage.name.split()[0], len(rank)))


def _of_run(run: Run, part: ReportPart) -> Stage | None:
    sentence = part.sentence(run)
    if not sentence:
        return None
    verb = part.verb(run)
    files = [Link(file, run.folder / file) for file in part.files if (run.folder / file).exists()]
    name = f"{verb} ({run.name})" if run.name else verb
    return Stage(name, sentence, [Link(f"{run.folder.name}/", run.folder), *files])


def _sections(folders: Sequence[Path]) -> Iterator[Stage]:
    for path in files_below(folders, "sections.csv"):
        table = read_result_table(path)
        # spot-cv writes a table of the same name, without the counts of the sections.
        if not {"patient", "median_umi"} <= set(table):
            continue
        yield Stage(
            "spots",
            f"Read {counted(len(table), 'section')} of {table['patient'].nunique()} patients with"
            f" {int(table['spots'].astype(int).sum())} spots.",
            _links(path, *sorted(path.parent.glob("*_spots.png"))[:1]),
        )


def _tiles(folders: Sequence[Path]) -> Iterator[Stage]:
    for path in files_below(folders, "tile_summary.csv"):
        table = read_result_table(path)
        kept = int(table["kept"].astype(int).sum())
        yield Stage(
            "tile",
            f"Found the tissue of {counted(len(table), 'slide')} and laid {kept} tiles on"
            f" it.{_failed(path.parent)}{_left_out(path.parent)}{_noted(table)}",
            _links(path.with_name("contact_sheet.html"), path),
        )


def _exported_tiles(folders: Sequence[Path]) -> Iterator[Stage]:
    by_folder: dict[Path, int] = {}
    for path in files_below(folders, "*.geojson"):
        if path.parent.name != _MAPS:
            by_folder[path.parent] = by_folder.get(path.parent, 0) + 1
    for folder, count in by_folder.items():
        yield Stage(
            "export-tiles",
            f"Wrote the tiles of {counted(count, 'slide')} as GeoJSON, which QuPath opens.",
            _links(folder),
        )


def _features(runs: Sequence[Run]) -> Iterator[Stage]:
    """Tell how the features were made that runs were trained on or predicted from."""
    named = [run.made.get("config", {}).get("features") for run in runs]
    for folder in dict.fromkeys(Path(name) for name in named if name):
        paths = sorted(folder.glob("*.h5"))
        if not paths:
            continue  # the features were deleted or are on another machine
        try:
            info = read_feature_info(paths[0])
        except InputError:
            continue  # the first file may be damaged; failures.csv lists such files
        imported = info.per_slide
        verb, did = ("import-features", "Read") if imported else ("encode", "Computed")
        yield Stage(
            verb,
            f"{did} the features of {counted(len(paths), 'slide')}: {info.width} numbers"
            f" {'each' if imported else 'per tile'}, by {info.encoder}.{_failed(folder)}"
            f"{_left_out(folder)}",
            _links(folder),
        )


def _joins(folders: Sequence[Path]) -> Iterator[Stage]:
    for path in files_below(folders, "join_summary.json"):
        made = read_json(path, what="the summary of bulk", fix=_AGAIN)
        join = made.get("join")
        if join is not None:
            yield Stage(
                "bulk",
                f"Joined the expression of {join['genes']} genes to the slides of"
                f" {counted(join['patients'], 'patient')}.{_named(made.get('gene_map', {}))}",
                _links(
                    path.with_name("join_report.csv"),
                    path.with_name("genes_renamed.csv"),
                    path.with_name("cohort.png"),
                ),
            )


def _named(gene_map: Mapping[str, Any]) -> str:
    """Return the sentence on genes that a gene map named, or nothing."""
    by_id, replaced, kept = (
        gene_map.get(name, 0)
        for name in ("named_by_id", "previous_symbols_replaced", "previous_symbols_kept")
    )
    if not (by_id or replaced or kept):
        return ""
    name = f"{gene_map['name']} {gene_map['version']}".strip()
    left = f"; {counted(kept, 'previous symbol')} stayed" if kept else ""
    return (
        f" Genes were named by {name}: {by_id} by their id, and {replaced} of a previous symbol by"
        f" the approved one{left}."
    )


def _clinical_tables(folders: Sequence[Path]) -> Iterator[Stage]:
    for path in files_below(folders, "clinical.json"):
        table = path.with_suffix(".csv")
        if table.is_file():
            yield Stage(
                "clinical",
                f"Read the survival of {counted(len(read_result_table(table)), 'patient')}.",
                _links(table, path.with_suffix(".png")),
            )


def _shared(folders: Sequence[Path]) -> Iterator[Stage]:
    """Tell which models were written for others, and which predictions."""
    for path in files_below(folders, DIGESTS):
        kind = read_json(path, what="a list of published files", fix=_AGAIN).get("kind")
        if kind == "predictions":
            runs = sorted(item for item in path.parent.iterdir() if item.is_dir())
            yield Stage(
                "export-predictions",
                f"Wrote the predictions of {counted(len(runs), 'run')} as tables, with an"
                " explanation of each column.",
                _links(path.with_name("README.md"), path.parent),
            )
        elif kind in ("encoder", "slide-model"):
            yield Stage(
                "publish",
                f"Wrote the {kind.replace('-', ' ')} as safetensors and JSON, with a model card.",
                _links(path.with_name("README.md"), path.parent),
            )


def _failed(folder: Path) -> str:
    """Return the sentence on slides that failed, or nothing."""
    path = folder / FAILURES_NAME
    failed = len(read_result_table(path)) if path.is_file() else 0
    return f" {counted(failed, 'slide')} failed." if failed else ""


def _left_out(folder: Path) -> str:
    """Return the sentences on files that were left out, or nothing."""
    path = folder / LEFT_OUT_NAME
    if not path.is_file():
        return ""
    table = read_result_table(path)
    rows = [LeftOut(*row) for row in table[["name", "reason"]].astype(str).to_numpy().tolist()]
    return "".join(f" {sentence}." for sentence in describe_left_out(rows))


def _noted(table: pd.DataFrame) -> str:
    """Return the notes on slide files, of which an overridden resolution is the gravest."""
    if "notes" not in table:
        return ""
    noted = table[table["notes"].fillna("").astype(str) != ""]
    return "".join(
        f" {slide}: {note}." for slide, note in noted[["slide", "notes"]].to_numpy()[:_MOST_NOTES]
    )


def _links(*paths: Path) -> list[Link]:
    return [
        Link(f"{path.name}/" if path.is_dir() else path.name, path)
        for path in paths
        if path.exists()
    ]
