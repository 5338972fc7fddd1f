"""Registry of the slide formats, and the function that opens a slide of any of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from tcgn_mil.errors import InputError
from tcgn_mil.file_formats.reading import describe_damage
from tcgn_mil.preprocessing.slides.readers.base import Slide, check_slide_file, check_square_pixel
from tcgn_mil.registry import add_entry
from tcgn_mil.types.tile_geometry import check_mpp


class SlideFile(NamedTuple):
    """A slide in a folder: the file to open, and the name that the format gives the slide."""

    path: Path
    slide_id: str


@dataclass(frozen=True)
class SlideReader:
    """Reader of one slide format.

    Attributes
    ----------
    name
        Name of the format, unique in the registry.
    suffixes
        Lower-case suffixes of files that a search of a folder takes for slides.
    can_open
        Returns whether the file at a path is of this format. It looks into the file where the
        suffix is not enough.
    open
        Opens a file. The arguments are the path, the micrometres per pixel that the user states for
        this slide, and those for slides that do not say; either may be None
        (:func:`~.base.choose_mpp` decides). It raises InputError if the file cannot be read.
    list_slides
        For formats that spread one slide over several files: sorts the files of a folder into
        slides. None where each file is a slide.
    folders
        Whether a slide of this format is a folder, as a Zarr store is. A search of a folder does
        not look into folders with one of its suffixes, and `can_open` is asked about folders.
    files
        For formats that spread one slide over several files: returns the files of the slide that is
        opened by a path, in a fixed order; of a folder of very many files a sample. None where a
        slide is one file.
    """

    name: str
    suffixes: frozenset[str]
    can_open: Callable[[Path], bool]
    open: Callable[[Path, float | None, float | None], Slide]
    list_slides: Callable[[Sequence[Path]], list[SlideFile]] | None = None
    folders: bool = False
    files: Callable[[Path], list[Path]] | None = None


_OME = ".ome"  # OME-TIFF has two suffixes: S1.ome.tif
READERS: dict[str, SlideReader] = {}
"""Name -> reader. The reader that was registered last is asked first."""


def register_slide_reader(reader: SlideReader) -> None:
    """Add a slide format, so that every command finds and opens its files.

    The new reader is asked before those that are there already, so it may also take over some of
    the files of another format.

    Parameters
    ----------
    reader
        Reader of the format.

    Raises
    ------
    InputError
        If the name of the format is taken.

    Examples
    --------
    Open ``.raw`` files as plain images:

    >>> from tcgn_mil.preprocessing.slides.readers.base import choose_mpp
    >>> from tcgn_mil.preprocessing.slides.readers.plain import PlainSlide
    >>> def open_raw(path, mpp, fallback_mpp):
    ...     return PlainSlide(path, choose_mpp(None, mpp, fallback_mpp, path=path))
    >>> raw = SlideReader(
    ...     "raw", frozenset({".raw"}), lambda path: path.suffix == ".raw", open_raw
    ... )
    >>> register_slide_reader(raw)
    >>> ".raw" in slide_suffixes()
    True
    >>> del READERS["raw"]
    """
    add_entry(READERS, reader.name, reader, what="slide format")


def slide_suffixes() -> frozenset[str]:
    """Return the lower-case suffixes of all slide formats, each with its dot.

    Examples
    --------
    >>> from tcgn_mil.preprocessing.slides.readers import slide_suffixes
    >>> {".svs", ".dcm", ".tif", ".png"} <= slide_suffixes()
    True
    """
    return frozenset().union(*(reader.suffixes for reader in READERS.values()))


def is_slide_folder(path: Path) -> bool:
    """Return whether a folder is one slide, as the stores of OME-Zarr are, by name or contents."""
    return path.is_dir() and any(
        reader.folders and reader.can_open(path) for reader in READERS.values()
    )


def without_slide_suffix(name: str) -> str:
    """Remove the suffix of a slide file from a name; a name without one stays as it is.

    Examples
    --------
    >>> from tcgn_mil.preprocessing.slides.readers import without_slide_suffix
    >>> without_slide_suffix("S1.ome.tif"), without_slide_suffix("TCGA-AA-0001.v2")
    ('S1', 'TCGA-AA-0001.v2')
    """
    suffix = Path(name).suffix.lower()
    if suffix not in slide_suffixes():
        return name
    stem = name[: -len(suffix)]
    return stem[: -len(_OME)] if stem.lower().endswith(_OME) else stem


def slide_files(path: str | Path) -> list[Path]:
    """Return all files of a slide, without opening it.

    Parameters
    ----------
    path
        File by which the slide is opened.

    Examples
    --------
    >>> from tcgn_mil.preprocessing.slides.readers import slide_files
    >>> slide_files("S1.svs")
    [PosixPath('S1.svs')]
    """
    path = Path(path)
    for reader in reversed(READERS.values()):
        if reader.files is not None and path.suffix.lower() in reader.suffixes:
            return reader.files(path)
    return [path]


def open_slide(
    path: str | Path,
    *,
    mpp: float | None = None,
    fallback_mpp: float | None = None,
    override_mpp: bool = False,
) -> Slide:
    """Open a slide or a plain image.

    Parameters
    ----------
    path
        File of any format in :data:`READERS`: whatever OpenSlide opens, OME-TIFF, DICOM, or a plain
        TIFF, PNG or JPEG; or the folder of an OME-Zarr.
    mpp
        Micrometres per pixel that the user states for this slide. It must agree with the file, if
        the file says.
    fallback_mpp
        Micrometres per pixel to use if neither the file nor `mpp` says.
    override_mpp
        Use `mpp` in spite of the file, whose statement is kept in the slide's `file_mpp`.

    Returns
    -------
    Slide
        An open slide, to be used as a context manager.

    Raises
    ------
    InputError
        If the file is missing, empty, damaged or of an unknown format, its resolution is unknown
        or contradictory, or its pixels are not square.

    Examples
    --------
    >>> import tempfile
    >>> from PIL import Image
    >>> from tcgn_mil.preprocessing.slides.readers import open_slide
    >>> folder = tempfile.TemporaryDirectory()
    >>> Image.new("RGB", (200, 100), "white").save(f"{folder.name}/glass.png")
    >>> with open_slide(f"{folder.name}/glass.png", mpp=0.5) as slide:
    ...     slide.size, slide.mpp, slide.read(x0=0, y0=0, level=0, width_px=50, height_px=40).shape
    ((200, 100), 0.5, (40, 50, 3))
    >>> folder.cleanup()
    """
    path = Path(path)
    is_folder = is_slide_folder(path)
    if not is_folder:
        check_slide_file(path)
    for name, value in (("mpp", mpp), ("fallback mpp", fallback_mpp)):
        if value is not None:
            check_mpp(value, what=name, path=path)
    fix = "compare its size with the source's and copy it again, or convert it to a tiled TIFF"
    with describe_damage(path, what="a slide", fix=fix):
        for reader in reversed(READERS.values()):
            if reader.folders == is_folder and reader.can_open(path):
                if override_mpp and mpp is not None:
                    # A reader prefers the file to a fallback, so this tells what the file states.
                    return _override(reader.open(path, None, mpp), mpp)
                return _checked(reader.open(path, mpp, fallback_mpp))
    raise InputError(
        "is not a slide of a known format: OpenSlide does not recognise it, or it is cut off",
        path=path,
        fix=fix,
    )


def _override(slide: Slide, mpp: float) -> Slide:
    if slide.mpp != mpp:
        slide.file_mpp, slide.mpp = slide.mpp, mpp
        said = f"the file says {slide.file_mpp:.4g} µm/px, overridden with {mpp:g}"
        slide.notes = (*slide.notes, said)
    return slide


def _checked(slide: Slide) -> Slide:
    try:
        check_square_pixel(slide.pixel_um, path=slide.path)
    except InputError:
        slide.close()
        raise
    return slide
