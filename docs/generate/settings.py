"""settings.md: every setting of a cell, every method with its own settings, and every loss."""

import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import fields, is_dataclass
from typing import Any, get_type_hints

from dae_ssl import config
from dae_ssl.config import Cell, Method
from docs.generate import markdown, notes, takes

INTRODUCTION = """\
A cell is one complete setting. On the command line a setting is written `NAME=VALUE`, as in `views.jitter=0.5`; in
Python it is nested, as in `dae_ssl.cell(method="dae", views={"jitter": 0.5})`. In the column *source*, "the paper" is
the study that this suite reproduces, whose values are the defaults; "the published code" is its repository; and "own
choice" is what neither of them says."""
HEAD = ("setting", "takes", "default", "meaning", "source")
METHODS = "What is trained is named by `method=NAME`; its own settings are written `method.SETTING=VALUE`."
LOSSES = """\
`method.reconstruction` names one of the first, `method.embedding` one of the second, `method.contrast` one of the
third. Here z1 and z2 are the embeddings of an image's two views, n x d for n images."""


def page() -> str:
    """Return the page. Raises ValueError for a setting, a method or a loss without a note, or without a source."""
    hints = get_type_hints(Cell)
    groups = {name: hints[name] for name in hints if is_dataclass(hints[name]) and name != "method"}
    parts = [
        "## The cell",
        _table(Cell, "", lambda given: config.cell({"method": "dae"} | dict(given)), skipped=groups),
    ]
    for name, kind in groups.items():
        parts += [f"## {name}", *notes.docstring(kind), _table(kind, f"{name}.", _builder(kind, name))]
    return markdown.page("Settings", INTRODUCTION, *parts, "## Methods", METHODS, *_methods(), "## Losses", LOSSES,
                         *_losses())  # fmt: skip


def _builder(kind: Any, name: str) -> takes.Build:
    return lambda given: config.build(kind, given, f"{name}.")


def _table(kind: type[Any], prefix: str, build: takes.Build, skipped: Mapping[str, Any] | None = None) -> str:
    own = [field for field in fields(kind) if field.name not in (skipped or {})]
    known = notes.of_fields(kind, [field.name for field in own], sources=True)
    rows = [
        [markdown.code(f"{prefix}{field.name}"), takes.taken(kind, field.name, build),
         markdown.code(takes.default(field)), known[field.name].meaning, known[field.name].source]
        for field in own
    ]  # fmt: skip
    return markdown.table(HEAD, rows)


def _methods() -> Iterator[str]:
    for name, kind in sorted(Method.registry.items(), key=lambda item: not item[1].trains):  # floors come last
        yield f"### {name}"
        yield from notes.docstring(kind)
        for base in kind.__mro__[1:]:
            if base.__module__ == kind.__module__:  # what methods of one file share, their equation above all
                yield from notes.docstring(base)
        yield f"*{notes.docstring(sys.modules[kind.__module__])[0]}*"
        if fields(kind):
            yield _table(kind, "method.", _of_method(name))


def _of_method(name: str) -> takes.Build:
    return lambda given: config.method(name, given)


def _losses() -> Iterator[str]:
    from dae_ssl.training.losses import CONTRAST, EMBEDDING, RECONSTRUCTION, Pairwise

    registered: dict[str, Mapping[str, Callable[..., Any]]] = {
        "Reconstruction losses": RECONSTRUCTION, "Embedding losses": EMBEDDING, "Contrastive losses": CONTRAST,
    }  # fmt: skip
    for title, losses in registered.items():
        rows = []
        for name, loss in losses.items():
            says = " ".join(notes.docstring(loss.per_image if isinstance(loss, Pairwise) else loss))
            says = says.removeprefix("Return ")
            rows.append([markdown.code(name), says[:1].upper() + says[1:]])
        yield f"### {title}"
        yield markdown.table(("name", "what it is"), rows)
