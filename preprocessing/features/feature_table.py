"""``tcgn-mil import-features table.csv``: one vector of features a slide, as bags of one tile.

For slide encoders and hand-made descriptors (nuclear morphology, say). Such a bag has no place and no size on its
slide: no map is drawn of it, and its tile is put down as 8 px of 1 µm, the smallest there is.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
from tqdm import tqdm

from tcgn_mil.errors import InputError
from tcgn_mil.io.atomic import safe_file_name, write_csv
from tcgn_mil.io.failures import Failure, write_failures
from tcgn_mil.io.feature_files import UNKNOWN, FeatureInfo, write_feature_blocks
from tcgn_mil.preprocessing.slides.names import SlideFacts
from tcgn_mil.text import duplicates, preview
from tcgn_mil.types.tile_geometry import PatchSize, TileSpec

SUFFIXES = (".csv", ".tsv")
_SLIDE_SUFFIXES = (".svs", ".tif", ".tiff", ".ndpi", ".mrxs", ".scn")
_SPEC = TileSpec.for_slide(PatchSize(8, 1.0), slide_mpp=1.0, level_downsamples=[1.0])


def import_table(
    path: str | Path,
    facts_of: Callable[[str], SlideFacts],
    encoder: str | None,
    out_dir: str | Path,
) -> tuple[list[FeatureInfo], list[Failure]]:
    """Write one feature file a row, and ``slides.csv`` with slide_id and patient_id for ``tcgn-mil bulk --slides``.

    Parameters
    ----------
    path
        CSV or TSV whose first column names slides and whose others are numbers.
    facts_of
        Patient of a slide; may raise InputError.
    encoder
        Name of what made the features.

    Raises
    ------
    InputError
        If there is no name, the table cannot be read, slides repeat, or a column has no numbers.
    """
    out_dir = Path(out_dir)
    if not (encoder or "").strip():
        raise InputError(
            "does not name what made its features", path=path, fix="give it with --encoder"
        )
    table = _read(Path(path))
    done: list[FeatureInfo] = []
    failures: list[Failure] = []
    for slide, values in tqdm(
        zip(table.index, table.to_numpy(np.float32), strict=True),
        total=len(table),
        desc="import-features",
        unit="slide",
    ):
        try:
            if not np.isfinite(values).all():
                raise InputError(
                    "has features that are missing or not finite", fix="compute them again"
                )
            info = FeatureInfo(
                slide,
                facts_of(slide).patient_id,
                1,
                table.shape[1],
                f"table:{encoder}",
                _SPEC,
                positions=UNKNOWN,
            )
            blocks = iter([values[None]])
            coords = np.full((1, 2), -1, dtype=np.int64)
            write_feature_blocks(
                out_dir / f"{safe_file_name(slide, what='slide id')}.h5",
                blocks,
                coords,
                info,
                dtype=np.dtype(np.float32),
                imported_from=Path(path).name,
            )
        except InputError as error:
            failures.append(Failure(slide, "import-features", error.reason, error.fix or ""))
        else:
            done.append(info)
    write_csv(
        out_dir / "slides.csv",
        pd.DataFrame(
            {
                "slide_id": [info.slide_id for info in done],
                "patient_id": [info.patient_id for info in done],
            }
        ),
    )
    write_failures(out_dir, failures)
    return done, failures


def _read(path: Path) -> pd.DataFrame:
    """Slides x features, numbers; slide names without the suffix of a slide file."""
    if not path.is_file():
        raise InputError("no such table of features", path=path, fix="check the path")
    try:
        table = pd.read_csv(path, sep="\t" if path.suffix == ".tsv" else ",", converters={0: str})
        table = table.set_index(table.columns[0])
    except (ValueError, UnicodeDecodeError) as error:
        raise InputError(
            f"cannot be read as a table ({error})", path=path, fix="save it as CSV again"
        ) from error
    text = [
        str(name) for name, kind in table.dtypes.items() if not pd.api.types.is_numeric_dtype(kind)
    ]
    if text or not table.shape[1]:
        what = f"columns {preview(text)} are not numbers" if text else "has no column of features"
        raise InputError(
            what, path=path, fix="leave the slides in the first column and numbers in the others"
        )
    names = [str(name) for name in table.index]
    table.index = pd.Index(
        [
            next((name[: -len(end)] for end in _SLIDE_SUFFIXES if name.lower().endswith(end)), name)
            for name in names
        ]
    )
    if repeated := duplicates(list(table.index)):
        raise InputError(
            f"names slide {preview(repeated)} more than once", path=path, fix="keep one row a slide"
        )
    return table
