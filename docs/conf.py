"""Configuration of the documentation site; `make docs` builds it."""

import sys
from pathlib import Path

from sphinx.application import Sphinx

import jaxrank

sys.path.insert(0, str(Path(__file__).parent))

project = "jaxrank"
author = "The jaxrank maintainers"
release = jaxrank.__version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
myst_enable_extensions = ["deflist"]
myst_heading_anchors = 3
# Flags begin with two hyphens, which is no dash.
smartquotes = False

# Docstrings have single backticks around code.
default_role = "code"
autodoc_typehints = "none"
autodoc_member_order = "bysource"
napoleon_numpy_docstring = False

html_theme = "sphinx_book_theme"
html_title = "jaxrank"
html_theme_options = {"navbar_persistent": [], "use_download_button": False}
html_static_path = ["_static"]
html_css_files = ["narrow_screens.css"]
html_copy_source = False


def setup(app: Sphinx) -> None:
    app.connect("source-read", _insert_commands)


def _insert_commands(app: Sphinx, page: str, source: list[str]) -> None:
    """The reference of commands is made from their flags, so it can't fall behind them."""
    if page == "commands":
        from command_pages import command_pages

        source[0] = source[0].replace("<!-- commands -->", command_pages())
