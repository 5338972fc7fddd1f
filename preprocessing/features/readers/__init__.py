"""Read feature files of other tools; each layout is one module, registered in :data:`READERS`.

To add a layout, write a module with a :class:`FeatureReader` and register it here, or call
:func:`register_feature_reader` from your own code.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path

from tcgn_mil.errors import InputError
from tcgn_mil.file_formats.reading import describe_damage
from tcgn_mil.preprocessing.features.readers import (
    clam,
    clam_tensor,
    hdf5_datasets,
    numpy_array,
    stamp,
    stamp_slide,
    trident,
    trident_slide,
)
from tcgn_mil.preprocessing.features.readers.base import FeatureReader, ForeignFeatures
from tcgn_mil.registry import add_entry

READERS: dict[str, FeatureReader] = {}


def register_feature_reader(reader: FeatureReader) -> None:
    """Add a layout of feature files; a name that is taken raises InputError.

    Layouts are tried in reverse order of registration: a later one may be a special case of an
    earlier one. TRIDENT's files, for example, are CLAM's with more attributes.
    """
    add_entry(READERS, reader.name, reader, what="layout of features")


for _reader in (
    clam.READER,
    trident.READER,
    trident_slide.READER,
    stamp.READER,
    stamp_slide.READER,
    clam_tensor.READER,
    numpy_array.READER,
):
    register_feature_reader(_reader)


def feature_suffixes() -> tuple[str, ...]:
    """Return the suffixes of all registered layouts, each once."""
    return tuple(dict.fromkeys(end for reader in READERS.values() for end in reader.suffixes))


@contextmanager
def open_foreign(path: str | Path) -> Iterator[ForeignFeatures]:
    """Open a feature file of another tool, in the layout that its contents show.

    Yields
    ------
    ForeignFeatures
        Checked features. They can be read while the context is open.

    Raises
    ------
    InputError
        If the file is missing or damaged, if no layout fits, or if its reader refuses it: no tile,
        features that are not (N, D) in floating point, or coords that do not belong to them. The
        vector of a slide is (D,) or (1, D).
    """
    path = Path(path)
    # A suffix that no layout has (".hdf", say) is taken for HDF5, whose file signature is checked.
    suffix = path.suffix.lower()
    suffix = suffix if suffix in feature_suffixes() else hdf5_datasets.SUFFIXES[0]
    candidates = [reader for reader in READERS.values() if suffix in reader.suffixes]
    damage = partial(describe_damage, path, what="a feature file", fix="copy the file again")
    for reader in reversed(candidates):
        with ExitStack() as stack:
            # Only the opening: what is done with the features may fail for other reasons.
            with damage():
                if not reader.is_layout(path):
                    continue
                features = stack.enter_context(reader.open(path))
            yield features
            return
    names = ", ".join(reader.name for reader in candidates)
    raise InputError(
        f"is in none of the layouts {names}: it has no features or feats",
        path=path,
        fix="name the data set of features features, if this is a feature file",
    )
