"""TCGN at whole-slide scale: spot-level gene expression prediction, aggregated to bulk profiles.

Importing this package is cheap and imports no torch; import the parts you need::

    from tcgn_mil.models import create_model
    from tcgn_mil.contracts import GenePanel, SpotSet, TileSet
"""

from importlib.metadata import PackageNotFoundError, version

try:
    __version__ = version("tcgn-mil")
except PackageNotFoundError:  # a bare copy on a GPU machine, not installed
    __version__ = "0+unknown"

__all__ = ["__version__"]
