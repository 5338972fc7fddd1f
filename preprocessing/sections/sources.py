"""Which sections a source holds, in whichever layout: told by its files, or stated."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from tcgn_mil.errors import InputError
from tcgn_mil.io.tables.schema import read_table
from tcgn_mil.preprocessing.schemas import SECTIONS_TABLE
from tcgn_mil.preprocessing.sections.raw_section import (
    RawSection,
    ReadSettings,
    SectionSource,
    broken_source,
)
from tcgn_mil.preprocessing.sections.readers import h5ad as section_h5ad
from tcgn_mil.preprocessing.sections.readers import her2st, hest, visium
from tcgn_mil.text import duplicates, preview

FORMATS = ("auto", "her2st", "visium", "h5ad", "hest")
TABLE_SUFFIXES = frozenset({".csv", ".tsv"})
_KNOWN = (
    "her2st (ST-cnts, ST-imgs, ST-spotfiles), a Space Ranger output folder, .h5ad files, HEST (st, patches, wsis), or a"
    " table with column path"
)


def find_sources(
    source: str | Path,
    *,
    format: str = "auto",
    sections: Sequence[str] | None = None,
    image: Path | None = None,
) -> list[SectionSource]:
    """The sections of a folder, a file or a table, in its order or as `sections` says.

    Parameters
    ----------
    format
        One of `FORMATS`.
    sections
        Only these.
    image
        Full-resolution image; there must be one section then.

    Raises
    ------
    InputError
        For an unknown format, a source in which no section is found, one that lacks a section asked for, two sections
        of one name, or one image for several. What is wrong with a single section shows when it is read.
    """
    source = Path(source)
    if format not in FORMATS:
        raise InputError(f"unknown format {format!r}", fix=f"choose one of {', '.join(FORMATS)}")
    if not source.exists():
        raise InputError("no such folder or file", path=source, fix=f"give {_KNOWN}")
    if source.is_file() and source.suffix.lower() in TABLE_SUFFIXES:
        found = _of_table(source, format, image)
    else:
        found = _of_path(source, format, image=image)
    repeated = duplicates([one.section for one in found])
    if repeated:
        raise InputError(
            f"two sections are named {preview(repeated)}",
            path=source,
            fix="name each in a table, column section",
        )
    chosen = _choose(found, sections, source)
    if image is not None and len(chosen) > 1:
        raise InputError(
            f"one image for {len(chosen)} sections",
            path=source,
            fix="choose one with --section, or use a table",
        )
    return chosen


def _choose(
    found: list[SectionSource], wanted: Sequence[str] | None, source: Path
) -> list[SectionSource]:
    known = {one.section: one for one in found}
    missing = [name for name in wanted or () if name not in known]
    if missing:
        raise InputError(
            f"has no section {preview(missing)}",
            path=source,
            fix=f"it has {preview([*known], most=40)}",
        )
    return [known[name] for name in dict.fromkeys(wanted or known)]


def detect_format(source: Path) -> str:
    """What layout a folder or file has.

    Raises
    ------
    InputError
        If none that is known.
    """
    if source.is_file():
        if source.suffix == ".h5ad":
            return (
                "hest"
                if source.parent.name == "st" and hest.files_of(source).patches is not None
                else "h5ad"
            )
        raise InputError(
            "is no section of spatial transcriptomics", path=source, fix=f"give {_KNOWN}"
        )
    if (source / "ST-cnts").is_dir():
        return "her2st"
    if any((source / "st").glob("*.h5ad")):
        return "hest"
    visium.refuse_other_layouts(source)
    if visium.outputs_of(source) is not None:
        return "visium"
    if any(source.glob("*.h5ad")):
        return "h5ad"
    if any(visium.outputs_of(folder) is not None for folder in source.iterdir() if folder.is_dir()):
        return "visium"
    raise InputError(
        "holds no section in a layout that is known", path=source, fix=f"give {_KNOWN}"
    )


def _of_path(
    source: Path,
    format: str,
    *,
    image: Path | None = None,
    patient: str | None = None,
    section: str | None = None,
) -> list[SectionSource]:
    """Sections of a folder or file; `section` names the one there is."""
    layout = detect_format(source) if format == "auto" else format
    found = {"her2st": _of_her2st, "visium": _of_visium, "h5ad": _of_h5ad, "hest": _of_hest}[
        layout
    ](source, image, patient, section)
    if section is None or len(found) == 1:
        return found
    return _choose(found, [section], source)


def _of_her2st(
    source: Path, image: Path | None, patient: str | None, section: str | None
) -> list[SectionSource]:
    if image is not None:
        raise InputError(
            "her2st sections have their own images", path=image, fix="leave --image out"
        )
    found = []
    for name, counts in her2st.count_files(source, None if section is None else [section]).items():
        locate = partial(her2st.files_of, source, name, counts)

        def files(locate: Callable[[], her2st.SectionFiles] = locate) -> tuple[Path, ...]:
            known = locate()
            return known.counts, known.positions, known.image

        def read(
            settings: ReadSettings, locate: Callable[[], her2st.SectionFiles] = locate
        ) -> RawSection:
            return her2st.read_section(
                locate(),
                spot_pitch_um=settings.spot_pitch_um,
                mpp=settings.mpp,
                gene_ids=settings.gene_ids,
            )

        found.append(SectionSource(name, files, read))
    return found


def _of_visium(
    source: Path, image: Path | None, patient: str | None, section: str | None
) -> list[SectionSource]:
    own = visium.outputs_of(source)
    folders = (
        [own]
        if own is not None
        else [
            outputs
            for folder in sorted(source.iterdir())
            if folder.is_dir() and (outputs := visium.outputs_of(folder)) is not None
        ]
    )
    if not folders:
        visium.refuse_other_layouts(source)
        raise InputError(
            "holds neither spatial nor a filtered_feature_bc_matrix",
            path=source,
            fix="give Space Ranger's outs folder",
        )
    found = []
    for folder in folders:
        name = section if section is not None and len(folders) == 1 else visium.section_name(folder)
        read = partial(visium.read_section, section=name, patient=patient or name, image=image)
        found.append(
            SectionSource(
                name,
                partial(visium.section_files, folder, image),
                partial(read, folder),
                (patient,),
            )
        )
    return found


def _of_h5ad(
    source: Path, image: Path | None, patient: str | None, section: str | None
) -> list[SectionSource]:
    paths = (
        [source]
        if source.is_file()
        else [path for path in sorted(source.glob("*.h5ad")) if not path.name.startswith(".")]
    )
    if not paths:
        raise InputError("holds no .h5ad", path=source, fix=f"give {_KNOWN}")
    found = []
    for path in paths:
        try:
            libraries = section_h5ad.find_libraries(path)
        except InputError as error:
            found.append(broken_source(path.stem, error))
            continue
        for library in libraries:
            name = (
                (section if section and len(paths) == 1 else path.stem)
                if library.alone
                else library.key
            )
            read = partial(
                section_h5ad.read_library, library, section=name, patient=patient, image=image
            )
            found.append(
                SectionSource(name, partial(_existing, path, image), read, (library.key, patient))
            )
    return found


def _of_hest(
    source: Path, image: Path | None, patient: str | None, section: str | None
) -> list[SectionSource]:
    samples = [hest.files_of(source)] if source.is_file() else hest.find_samples(source)
    if not samples:
        raise InputError(
            "has no st/*.h5ad", path=source, fix="give the folder that holds st and patches"
        )
    found = []
    for files in samples:
        name = section if section is not None and len(samples) == 1 else files.sample
        read = partial(hest.read_sample, files, section=name, patient=patient, image=image)
        found.append(
            SectionSource(name, partial(_existing, *files.paths(), image), read, (patient,))
        )
    return found


def _existing(*paths: Path | None) -> tuple[Path, ...]:
    known = tuple(path for path in paths if path is not None)
    for path in known:
        if not path.is_file():
            raise InputError("no such file", path=path, fix="check the path")
    return known


def _of_table(table: Path, format: str, image: Path | None) -> list[SectionSource]:
    if image is not None:
        raise InputError(
            "an image beside a table of sections", path=image, fix="use the table's column image"
        )
    rows = read_table(table, SECTIONS_TABLE).to_dict("index")
    return [one for number, row in rows.items() for one in _of_row(table, row, number, format)]


def _of_row(table: Path, row: dict[str, str], number: int, format: str) -> list[SectionSource]:
    """Sections of a row; one that cannot be found stands for itself, to be reported in its turn."""
    source = table.parent / row["path"]
    image = table.parent / row["image"] if row["image"] else None
    layout = row["format"] or format
    if layout not in FORMATS:
        raise InputError(
            f"table of sections, column format, row {number}: {layout!r} is none of {', '.join(FORMATS)}",
            path=table,
            fix="choose one of them, or leave the cell empty",
        )
    try:
        if not source.exists():
            raise InputError("no such folder or file", path=source, fix="check the path")
        found = _of_path(
            source,
            layout,
            image=image,
            patient=row["patient_id"] or None,
            section=row["section"] or None,
        )
    except InputError as error:
        return [broken_source(row["section"] or source.stem, error)]
    return [_with_mpp(one, float(row["mpp"])) for one in found] if row["mpp"] else found


def _with_mpp(source: SectionSource, mpp: float) -> SectionSource:
    return replace(
        source,
        read=lambda settings: source.read(replace(settings, mpp=mpp)),
        choices=(*source.choices, mpp),
    )
