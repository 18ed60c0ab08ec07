"""The pages of docs/reference, generated from the code: `python -m docs.generate` writes them.

    notes        the docstrings of attributes, which `ast` sees and Python forgets
    takes        what a setting takes: its type, and its bounds or choices, asked of the setting itself
    markdown     tables and headings
    settings     settings.md: every setting of a cell, every method and every loss
    profile      profile.md: every key of a cluster's profile
    verbs        verbs.md: every verb of `dae-ssl` with its help
    experiments  experiments.md: every experiment, how many cells it has, how it is computed
    python       python.md: the names that `import dae_ssl` gives

A test asserts that the committed pages are those that the code gives.
"""

from collections.abc import Callable, Mapping
from pathlib import Path

from docs.generate import experiments, profile, python, settings, verbs

REFERENCE = Path(__file__).parents[1] / "reference"
PAGES: Mapping[str, Callable[[], str]] = {
    "settings": settings.page,
    "profile": profile.page,
    "verbs": verbs.page,
    "experiments": experiments.page,
    "python": python.page,
}
"""What each page is made by."""


def pages() -> dict[Path, str]:
    """Return every page of the reference as the code gives it now. Raises ValueError for a setting without a note."""
    import dae_ssl.training.methods  # noqa: F401  (registers every method)

    return {REFERENCE / f"{name}.md": page() for name, page in PAGES.items()}
