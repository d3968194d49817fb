"""Sphinx settings of the documentation: `make docs` builds it into `build/docs`."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent / "_ext"))

import msgm_bench

project = "msgm-bench"
author = "msgm-bench maintainers"
release = version = msgm_bench.__version__

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx.ext.mathjax",
    "sphinx_click",
    "public_names",
    "board_pages",
]
source_suffix = {".md": "markdown"}
exclude_patterns = ["_ext"]
nitpick_ignore_regex = [("py:.*", ".*")]  # signatures name types of other projects

smartquotes = False  # it would turn the two dashes of an option into one

myst_enable_extensions = ["colon_fence", "deflist", "dollarmath"]
myst_heading_anchors = 3

autodoc_member_order = "bysource"
autodoc_typehints = "none"
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_use_ivar = True

html_theme = "furo"
html_title = f"msgm-bench {release}"
html_theme_options = {"source_directory": "docs/"}
html_copy_source = False
html_show_sourcelink = False
