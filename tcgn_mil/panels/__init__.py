"""Gene panels that come with the package, by name.

``tcgn-her2st`` has the 785 genes that the published TCGN predicts for her2st (Xiao et al., Medical
Image Analysis 2024), in the order of its outputs. The JSON file beside each list states its origin.
"""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path


def shipped_panels() -> dict[str, Path]:
    """Return the lists of genes that come with the package, by name.

    Examples
    --------
    >>> sorted(shipped_panels())
    ['tcgn-her2st']
    """
    folder = Path(str(files(__name__)))
    return {path.stem: path for path in sorted(folder.glob("*.txt"))}
