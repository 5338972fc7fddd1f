"""Version of the installed package.

It has a module of its own so that no module has to import ``tcgn_mil``, whose public names lead to
every part of the project.
"""

from importlib.metadata import PackageNotFoundError, version

try:
    __version__ = version("tcgn-mil")
except PackageNotFoundError:  # a bare copy on a GPU machine, not installed
    __version__ = "0+unknown"
