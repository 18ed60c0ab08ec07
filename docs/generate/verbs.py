"""verbs.md: every verb of `dae-ssl` with the help that it prints, at one width and without what this machine adds."""

import argparse
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import jobs.__main__
from docs.generate import markdown

WIDTH = 88
INTRODUCTION = """\
What a command acts on is a word, what it does is a `--flag`, what a cell is, is `name=value`, in any order.
`dae-ssl VERB --help` prints what stands here; `python -m jobs` is the same command."""
ENVIRONMENT = ("DAE_SSL_STORE", "SLURM_ARRAY_TASK_ID")
"""Variables that defaults are taken from."""


class Fixed(argparse.RawDescriptionHelpFormatter):
    """Prints help alike whatever the window is and whichever Python runs: `-c, --cfg WHAT`, as Python 3.13 has it."""

    def __init__(self, prog: str, **options: Any) -> None:
        super().__init__(prog, **(options | {"width": WIDTH}))

    def _format_action_invocation(self, action: argparse.Action) -> str:
        if not action.option_strings or action.nargs == 0:
            return super()._format_action_invocation(action)
        value = self._format_args(action, self._get_default_metavar_for_optional(action))
        return f"{', '.join(action.option_strings)} {value}"


def page() -> str:
    """Return the page."""
    with _without(*ENVIRONMENT):
        parts = [part for verb in jobs.__main__.VERBS for part in _verb(verb)]
        whole = _help(jobs.__main__.parser()[0])
    return markdown.page("Verbs", INTRODUCTION, markdown.block(whole), *parts)


def _verb(verb: str) -> Iterator[str]:
    parser = jobs.__main__.parser(verb)[1]
    leaves = parser.leaves()
    yield f"## {verb}"
    if leaves != [parser]:
        yield markdown.block(_help(parser))
    for leaf in leaves:
        if leaf is not parser:
            yield f"### {leaf.prog.removeprefix('dae-ssl ')}"
        yield markdown.block(_help(leaf))


def _help(parser: argparse.ArgumentParser) -> str:
    parser.formatter_class = Fixed
    return parser.format_help()


@contextmanager
def _without(*names: str) -> Iterator[None]:
    """Take some variables out of the environment for a while."""
    kept = {name: os.environ.pop(name) for name in names if name in os.environ}
    try:
        yield
    finally:
        os.environ.update(kept)
