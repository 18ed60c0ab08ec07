"""python.md: the names that `import dae_ssl` gives, each with its signature and its docstring."""

import ast
import inspect
import textwrap
from collections.abc import Iterator
from dataclasses import is_dataclass
from typing import Any

import dae_ssl
from docs.generate import markdown, notes

WIDTH = 88
"""Characters of a signature from which on each parameter has a line."""


def page() -> str:
    """Return the page. Raises ValueError for a name without a docstring."""
    tree = ast.parse(inspect.getsource(dae_ssl))
    values: dict[str, str] = {}
    for part in (tree, *(part for part in ast.walk(tree) if isinstance(part, ast.If))):
        values |= notes.attributes(part)
    introduction = "`import dae_ssl` gives these names, and imports nothing else until one of them is first used."
    parts = [part for name in sorted(dae_ssl.__all__, key=str.lower) for part in _name(name, values)]
    return markdown.page("In Python", introduction, *parts)


def _name(name: str, values: dict[str, str]) -> Iterator[str]:
    thing = getattr(dae_ssl, name)
    yield f"## {name}"
    if isinstance(thing, type):
        yield from _class(thing)
    elif callable(thing):
        yield from _function(name, thing)
    elif name in values:
        yield from notes.paragraphs(values[name])
    else:
        raise ValueError(f"dae_ssl.{name} has no note: write what it is in a docstring below it in dae_ssl/__init__.py")


def _class(kind: type[Any]) -> Iterator[str]:
    (definition,) = ast.parse(textwrap.dedent(inspect.getsource(kind))).body
    assert isinstance(definition, ast.ClassDef)
    if is_dataclass(kind):
        stated = [ast.unparse(part) for part in definition.body if isinstance(part, ast.AnnAssign)]
        yield markdown.block(f"{kind.__name__}({', '.join(stated)})")
    elif "__init__" in vars(kind):
        yield markdown.block(_signature(kind.__name__, kind.__init__, bound=True))
    yield from _said(kind)
    methods = [(name, member) for name, member in vars(kind).items()
               if not name.startswith("_") and inspect.isfunction(member)]  # fmt: skip
    rows = [
        [markdown.code(_signature(name, member, bound=True)), notes.docstring(member)[0]] for name, member in methods
    ]
    if rows:
        yield markdown.table(("method", "what it does"), rows)


def _function(name: str, function: Any) -> Iterator[str]:
    yield markdown.block(_signature(name, function))
    yield from _said(function)


def _said(thing: Any) -> Iterator[str]:
    """Yield a docstring as Markdown, in which what is indented is code."""
    notes.docstring(thing)  # raises where there is none
    yield inspect.cleandoc(thing.__doc__)


def _signature(name: str, function: Any, *, bound: bool = False) -> str:
    """Return the signature as it stands in the source, whichever Python runs; a method's without its first argument."""
    (definition,) = ast.parse(textwrap.dedent(inspect.getsource(function))).body
    assert isinstance(definition, ast.FunctionDef)
    gives = "" if definition.returns is None or name[:1].isupper() else f" -> {_annotation(definition.returns)}"
    stated = list(_parameters(definition.args))[1 if bound else 0 :]
    line = f"{name}({', '.join(stated)}){gives}"
    return line if len(line) <= WIDTH else f"{name}(\n    " + ",\n    ".join(stated) + f",\n){gives}"


def _parameters(arguments: ast.arguments) -> Iterator[str]:
    """Yield the parameters of a function as they are written, `/` and `*` among them."""
    plain = [*arguments.posonlyargs, *arguments.args]
    defaults = [None] * (len(plain) - len(arguments.defaults)) + [*arguments.defaults]
    for place, (argument, default) in enumerate(zip(plain, defaults, strict=True), 1):
        yield _parameter(argument, default)
        if place == len(arguments.posonlyargs):
            yield "/"
    if arguments.vararg is not None:
        yield f"*{_parameter(arguments.vararg, None)}"
    elif arguments.kwonlyargs:
        yield "*"
    for argument, default in zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True):
        yield _parameter(argument, default)
    if arguments.kwarg is not None:
        yield f"**{_parameter(arguments.kwarg, None)}"


def _parameter(argument: ast.arg, default: ast.expr | None) -> str:
    kind = "" if argument.annotation is None else f": {_annotation(argument.annotation)}"
    usual = "" if default is None else f" = {ast.unparse(default)}"
    return f"{argument.arg}{kind}{usual}"


def _annotation(written: ast.expr) -> str:
    """Return an annotation as it is written, without the quotes around what is defined further down."""
    return ast.unparse(written).replace("'", "")
