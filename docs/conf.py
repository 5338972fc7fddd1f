"""Settings of Sphinx for the documentation.

Build it with ``sphinx-build -W docs site``. These variables change the build:

TCGN_MIL_DEMO
    Folder of a finished ``tcgn-mil demo --preset test``, which the notebooks read. Without it, the
    demo is made in docs/generated, which takes a minute, once.
TCGN_MIL_DOCS_FAST
    If set, notebooks are shown without being executed.
TCGN_MIL_INTERSPHINX
    If set, links into the documentation of other projects are added. Only this needs a network.
TCGN_MIL_SITE_URL
    Address of the site, for link previews.
"""

from __future__ import annotations

import os
import sys
import warnings
from pathlib import Path

DOCS = Path(__file__).parent
sys.path.insert(0, str(DOCS / "extensions"))

from tcgn_mil.version import __version__  # noqa: E402

# The notebooks run on the same cores as the build.
os.environ.setdefault("OMP_NUM_THREADS", "1")
warnings.filterwarnings("ignore", category=FutureWarning)

project = "tcgn_mil"
author = "The tcgn_mil developers"
project_copyright = f"2026, {author}"
version = release = __version__

extensions = [
    "made_pages",  # docs/extensions: pages that are copied or made from the code
    "myst_nb",
    "numpydoc",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.viewcode",
    "sphinxcontrib.bibtex",
    "sphinxcontrib.typer",
    "sphinxext.opengraph",
    "sphinx_copybutton",
    "sphinx_design",
]
exclude_patterns = ["_build", "checks", "extensions", "generated/demo", "generated/gallery"]
master_doc = "index"
language = "en"

myst_enable_extensions = ["attrs_block", "colon_fence", "deflist", "dollarmath", "fieldlist"]
myst_heading_anchors = 4
nb_execution_mode = "off" if os.environ.get("TCGN_MIL_DOCS_FAST") else "force"
nb_execution_in_temp = True
nb_execution_timeout = 180
nb_execution_raise_on_error = True

autosummary_generate = True
autodoc_typehints = "none"  # numpydoc docstrings state the types
autodoc_member_order = "bysource"
numpydoc_show_class_members = False
numpydoc_class_members_toctree = False

bibtex_bibfiles = ["references.bib"]
bibtex_default_style = "unsrt"

# A prompt and what a command prints are not copied.
copybutton_prompt_text = r"\$ |>>> |\.\.\. "
copybutton_prompt_is_regexp = True

# Pictures for link previews need the address of the site, which a local build does not have.
ogp_site_url = os.environ.get("TCGN_MIL_SITE_URL", "")
ogp_social_cards = {"enable": False}


html_theme = "sphinx_book_theme"
html_title = "tcgn_mil"
html_static_path = ["_static"]
html_css_files = ["tcgn_mil.css"]
html_theme_options = {
    "show_toc_level": 2,
    "home_page_in_toc": False,
    "use_download_button": False,
    "use_fullscreen_button": False,
    "navbar_persistent": [],  # the sidebar has the search
}

if os.environ.get("TCGN_MIL_INTERSPHINX"):
    extensions.append("sphinx.ext.intersphinx")
    intersphinx_mapping = {
        "python": ("https://docs.python.org/3", None),
        "numpy": ("https://numpy.org/doc/stable", None),
        "pandas": ("https://pandas.pydata.org/docs", None),
        "anndata": ("https://anndata.readthedocs.io/en/stable", None),
        "scanpy": ("https://scanpy.readthedocs.io/en/stable", None),
        "squidpy": ("https://squidpy.readthedocs.io/en/stable", None),
        "spatialdata": ("https://spatialdata.scverse.org/en/stable", None),
        "torch": ("https://pytorch.org/docs/stable", None),
    }
    intersphinx_timeout = 10
