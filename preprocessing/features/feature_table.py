"""Import a table with one vector of features for each slide.

The command is ``tcgn-mil import-features table.csv``. It is for slide encoders and for hand-made
descriptors such as nuclear morphology. Each slide becomes a bag of one tile. The tile has no
position and no size, so no map can be drawn of it. Its size is stored as 8 px of 1 µm, the smallest
that a feature file allows.
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
from tcgn_mil.io.feature_files import write_feature_blocks
from tcgn_mil.preprocessing.features.readers.table import read_feature_table
from tcgn_mil.preprocessing.slides.names import SlideFacts
from tcgn_mil.types.features import UNKNOWN, FeatureInfo
from tcgn_mil.types.tile_geometry import PatchSize, TileSpec

TABLE_ENCODER = "table:"
"""Beginning of the name of the encoder of features that came from a table."""

_SPEC = TileSpec.for_slide(PatchSize(8, 1.0), slide_mpp=1.0, level_downsamples=[1.0])


def import_table(
    path: str | Path,
    facts_of: Callable[[str], SlideFacts],
    encoder: str | None,
    out_dir: str | Path,
) -> tuple[list[FeatureInfo], list[Failure]]:
    """Write one feature file for each row of a table of slide features.

    A row that cannot be used is listed in ``failures.csv``. The file ``slides.csv`` gets the
    columns slide_id and patient_id, for ``tcgn-mil bulk --slides``.

    Parameters
    ----------
    path
        CSV or TSV. The first column names the slides, the others hold numbers.
    facts_of
        Function from a slide's name to its patient. It may raise InputError.
    encoder
        Name of the program or model that made the features.
    out_dir
        Folder for the files.

    Returns
    -------
    done : list of FeatureInfo
        Descriptions of the files that were written.
    failures : list of Failure
        Rows that could not be used.

    Raises
    ------
    InputError
        If `encoder` is missing, the table cannot be read, slides repeat, or a column has text.
    """
    path, out_dir = Path(path), Path(out_dir)
    if not (encoder or "").strip():
        raise InputError(
            "does not name what made its features", path=path, fix="give it with --encoder"
        )
    table = read_feature_table(path)
    done: list[FeatureInfo] = []
    failures: list[Failure] = []
    rows = zip(table.index, table.to_numpy(np.float32), strict=True)
    for slide, values in tqdm(rows, total=len(table), desc="import-features", unit="slide"):
        try:
            if not np.isfinite(values).all():
                raise InputError(
                    "has features that are missing or not finite", fix="compute them again"
                )
            patient = facts_of(slide).patient_id
            info = FeatureInfo(
                slide,
                patient,
                1,
                table.shape[1],
                f"{TABLE_ENCODER}{encoder}",
                _SPEC,
                positions=UNKNOWN,
            )
            write_feature_blocks(
                out_dir / f"{safe_file_name(slide, what='slide id')}.h5",
                iter([values[None]]),
                np.full((1, 2), -1, dtype=np.int64),
                info,
                dtype=np.dtype(np.float32),
                imported_from=path.name,
            )
        except InputError as error:
            failures.append(Failure(slide, "import-features", error.reason, error.fix or ""))
        else:
            done.append(info)
    slides = [(info.slide_id, info.patient_id) for info in done]
    write_csv(out_dir / "slides.csv", pd.DataFrame(slides, columns=["slide_id", "patient_id"]))
    write_failures(out_dir, failures)
    return done, failures
