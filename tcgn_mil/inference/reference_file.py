"""Write and read ``reference.safetensors``, to which new patients of a run are compared.

The file holds the numbers of :class:`~tcgn_mil.inference.out_of_distribution.Reference` and the
names of the training patients. The tiles themselves are not in it.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from tcgn_mil.batches.bag_files import read_bag
from tcgn_mil.errors import InputError
from tcgn_mil.file_formats.reading import describe_damage
from tcgn_mil.file_formats.safetensors_file import read_tensors_of
from tcgn_mil.inference.feature_spaces import PatientSpace, RobustScale, Whitening
from tcgn_mil.inference.out_of_distribution import MAX_TILES, Reference, fit_reference, shuffled
from tcgn_mil.io.atomic import atomic_path

FILE = "reference.safetensors"
SCHEMA = "2"
_HEADER = "tcgn_mil"
# Memory for the tiles of all training patients together. A cohort of 900 patients with 1024
# features gets 72 tiles of each.
_SAMPLE_BYTES = 2**28
_ARRAYS = ("sizes", "counts", "left_out")
_AGAIN = "run the same tcgn-mil finetune or slide-cv command again; it only makes this file anew"


class TileSample(NamedTuple):
    """Features (n, D) of at most `MAX_TILES` tiles of a patient, in random order."""

    patient: str
    tiles: NDArray[np.float32]


def sample_tiles(files: Mapping[str, Sequence[Path]], *, width: int) -> Iterator[TileSample]:
    """Read a sample of tiles of each patient; one patient at a time is in memory as a whole.

    Parameters
    ----------
    files
        Feature files of each patient.
    width
        Number D of features, from which the size of the samples follows.
    """
    most = max(1, min(MAX_TILES, _SAMPLE_BYTES // max(1, len(files) * width * 4)))
    for patient, paths in files.items():
        seed = zlib.crc32(patient.encode())
        bag = read_bag(paths, max_tiles=most, generator=np.random.default_rng(seed))
        yield TileSample(patient, shuffled(bag.features, seed=seed))


def write_reference(folder: str | Path, samples: Iterable[TileSample]) -> Reference:
    """Fit the reference to the patients of a run, and write it into the run's folder."""
    from safetensors.numpy import save_file

    given = list(samples)
    reference = fit_reference([each.patient for each in given], [each.tiles for each in given])
    arrays: dict[str, NDArray] = {name: getattr(reference, name) for name in _ARRAYS}
    for name, part in _parts(reference).items():
        arrays |= {f"{name}.{key}": value for key, value in part.items()}
    header = {"schema_version": SCHEMA, "patients": reference.patients}
    with atomic_path(Path(folder) / FILE) as temporary:
        # One key only, since safetensors writes several in an order that varies.
        save_file(arrays, temporary, metadata={_HEADER: json.dumps(header)})
    return reference


def read_reference(folder: str | Path) -> Reference:
    """Read the reference of a run.

    Raises
    ------
    InputError
        If the file does not exist, is damaged, or was written by an older version.
    """
    path = Path(folder) / FILE
    if not path.is_file():
        raise InputError(
            "does not exist, so slides cannot be compared with the training slides",
            path=path,
            fix=_AGAIN,
        )
    with describe_damage(path, what="a reference of training slides", fix=_AGAIN):
        metadata, arrays = read_tensors_of(
            path, what="a reference of training slides", fix=_AGAIN, framework="numpy"
        )
        header = json.loads(metadata.get(_HEADER, "{}"))
        current = header.get("schema_version") == SCHEMA
        reference = _restored(arrays, header["patients"]) if current else None
    if reference is None:
        raise InputError(
            "was written by an older version, which compared the means of features only",
            path=path,
            fix=_AGAIN,
        )
    return reference


def _parts(reference: Reference) -> dict[str, dict[str, NDArray]]:
    """Return the arrays of each part of the reference that there is."""
    parts: dict[str, dict[str, NDArray]] = {"scale": vars(reference.scale)}
    if reference.white is not None:
        parts["white"] = reference.white._asdict()
    parts["means"] = vars(reference.means)
    if reference.spreads is not None:
        parts["spreads"] = vars(reference.spreads)
    return parts


def _restored(arrays: Mapping[str, NDArray], patients: Sequence[str]) -> Reference:
    def part(name: str) -> dict[str, NDArray]:
        start = f"{name}."
        return {k.removeprefix(start): v for k, v in arrays.items() if k.startswith(start)}

    return Reference(
        patients=tuple(patients),
        scale=RobustScale(**part("scale")),
        white=Whitening(**part("white")) if part("white") else None,
        means=PatientSpace(**part("means")),
        spreads=PatientSpace(**part("spreads")) if part("spreads") else None,
        **{name: arrays[name] for name in _ARRAYS},
    )
