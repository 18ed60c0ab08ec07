"""How Sphinx builds the site: `make docs`, strict, from the pages in docs/ and those of the repository around them.

The repository's root is what Sphinx reads, so that README, CONTRIBUTING and the pages in docs/ link to one another and
to pictures in results/ by the same relative links as on GitHub. Links to source files become pages of the site.
"""

import re
import sys
from pathlib import Path

from sphinx.application import Sphinx

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from docs.sources import Sources, redirect, toctrees  # noqa: E402  (found from the root, which is on the path now)

project = "dae_ssl"
version = release = re.findall(r'^version = "(.*)"', (ROOT / "pyproject.toml").read_text(), re.MULTILINE)[0]
author = copyright = ""
extensions = ["myst_parser"]
root_doc = "docs/index"
include_patterns = ["README.md", "CONTRIBUTING.md", "CHANGELOG.md", "docs/**.md", "examples/README.md",
                    "results/README.md"]  # fmt: skip
myst_heading_anchors = 4
myst_enable_extensions = ["html_image"]
nitpicky = True
suppress_warnings = ["myst.header"]  # a page that others are parts of may begin below the first level
pygments_style = "friendly"
pygments_dark_style = "native"
html_theme = "furo"
html_title = "dae_ssl"
html_static_path = ["site.css"]
html_css_files = ["site.css"]
html_show_sphinx = html_show_copyright = False
html_copy_source = False
html_domain_indices = html_use_index = False


def setup(app: Sphinx) -> None:
    """Add what the site does with these pages beside Sphinx and MyST."""
    sources = Sources(ROOT)
    app.connect("source-read", toctrees)
    app.connect("doctree-read", sources.link, priority=100)  # before Sphinx copies files that are linked to
    app.connect("html-collect-pages", sources.pages)
    app.connect("build-finished", redirect)
