"""The docstrings of attributes, which `ast` sees and Python forgets; and a docstring's parts."""

import ast
import inspect
import re
import textwrap
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

SOURCE = "Source: "
"""What the last paragraph of a setting's note begins with: where its default comes from."""


@dataclass(frozen=True)
class Note:
    """The note of a setting: what it means, and where its default comes from, which not every setting needs to say."""

    meaning: str
    source: str


def of_fields(kind: type[Any], names: Iterable[str], *, sources: bool) -> dict[str, Note]:
    """Return the notes of some fields of a dataclass, its bases' included.

    Raises ValueError for a field without a note and, where `sources` are wanted, for a note without one.
    """
    written: dict[str, str] = {}
    for base in reversed(kind.__mro__):
        if base is not object:
            written |= attributes(ast.parse(textwrap.dedent(inspect.getsource(base))).body[0])
    return {name: _note(f"{kind.__name__}.{name}", written.get(name, ""), sources=sources) for name in names}


def attributes(body: Any) -> dict[str, str]:
    """Return the docstring of each attribute that is assigned in the tree of a class or module and has one."""
    found = dict[str, str]()
    for statement, after in zip(body.body, body.body[1:], strict=False):
        targets = statement.targets if isinstance(statement, ast.Assign) else [getattr(statement, "target", None)]
        says = after.value if isinstance(after, ast.Expr) else None
        if isinstance(says, ast.Constant) and isinstance(says.value, str):
            found |= {target.id: inspect.cleandoc(says.value) for target in targets if isinstance(target, ast.Name)}
    return found


def _note(name: str, text: str, *, sources: bool) -> Note:
    stated = [paragraph for paragraph in paragraphs(text) if not paragraph.startswith(SOURCE)]
    source = " ".join(p.removeprefix(SOURCE) for p in paragraphs(text) if p.startswith(SOURCE))
    if not stated:
        raise ValueError(f"{name} has no note: write what it means in a docstring below it")
    if sources and not source:
        raise ValueError(f"the note of {name} has no source: end it in a paragraph `{SOURCE}...`")
    return Note(" ".join(stated), source[:1].upper() + source[1:])


def paragraphs(text: str) -> list[str]:
    """Return the paragraphs of a docstring, each on one line."""
    return [" ".join(part.split()) for part in re.split(r"\n\s*\n", text.strip()) if part.strip()]


def docstring(thing: Any) -> list[str]:
    """Return the paragraphs of a thing's own docstring. Raises ValueError where it has none."""
    text = inspect.getdoc(thing) if not isinstance(thing, type) else inspect.cleandoc(thing.__doc__ or "")
    if not text:
        raise ValueError(f"{getattr(thing, '__name__', thing)} has no docstring: write what it is")
    return paragraphs(text)
