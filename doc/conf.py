"""
How Sphinx builds the documentation.

What the code knows better than any page (lifecycles, actions, settings, fault
points) is written into C{_generated/} before each build.
"""

import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent)]

import generate  # noqa: E402

from fabric import __version__  # noqa: E402

project = "Cloud Fabric"
author = "The authors of Cloud Fabric"
copyright = author
release = version = __version__
extensions: list[str] = []
exclude_patterns = ["_build", "_generated", "newsfragments"]
html_theme = "alabaster"
html_theme_options = {"description": "A private cloud of Twisted services", "page_width": "1080px"}
html_show_sourcelink = False
nitpicky = True


def setup(app: object) -> None:
    """Generate pages before they are read."""
    generate.write_all(HERE / "_generated", HERE.parent)
