"""Read a command line: words, `--flags` and `name=value`, in any order, with one-line messages for mistakes.

A word names what a command acts on, a flag says what it does, and `name=value` is a setting of cells. argparse parses
the flags and prints the help; this module adds what argparse lacks: any order of words and flags, values that begin
with `-`, and messages with suggestions.
"""

import argparse
import math
import re
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Any, NoReturn

from dae_ssl.config import ConfigError, closest
from jobs.values import shown


class Parser(argparse.ArgumentParser):
    """A parser that takes words and flags in any order, and raises ConfigError for mistakes."""

    def __init__(self, **options: Any) -> None:
        usual: dict[str, Any] = {"formatter_class": argparse.RawDescriptionHelpFormatter, "allow_abbrev": False}
        super().__init__(**(usual | options))

    def error(self, message: str) -> NoReturn:
        """Raise ConfigError with argparse's message, in the form of all other messages."""
        raise ConfigError(re.sub(r"^argument (?:-\w/)?([\w-]+): ", lambda named: f"{named[1]}: ", message))

    def read(self, arguments: Sequence[str]) -> argparse.Namespace:
        """Return the parsed arguments. Raises ConfigError with one line for a wrong argument."""
        if kinds := self._kinds():
            kind, *further = arguments or [""]
            if kind in ("-h", "--help"):
                self.parse_args([kind])
            if kind not in kinds:
                hint = f"unknown word {kind!r} after {self.prog}: {closest(kind, kinds)}" if kind else ""
                raise ConfigError(f"{hint}choose {' or '.join(f'{self.prog} {name}' for name in kinds)}")
            return kinds[kind].read(further)
        flags, words = self._apart(list(arguments))
        if words and all(action.option_strings for action in self._actions):
            raise ConfigError(f"{shown(words[0])!r} is one word too many: {self.prog} takes only flags")
        return self.parse_args([*flags, *(["--", *words] if words else [])])

    def leaves(self) -> "list[Parser]":
        """Return the parsers that read arguments: its subparsers, or this parser itself."""
        return [leaf for kind in self._kinds().values() for leaf in kind.leaves()] or [self]

    def _kinds(self) -> "dict[str, Parser]":
        """Return the subparsers by the words that select them."""
        below = [action for action in self._actions if isinstance(action, argparse._SubParsersAction)]
        return dict(below[0].choices) if below else {}

    def _get_value(self, action: argparse.Action, arg_string: str) -> Any:
        """Return the value that a flag's reader returns for a text."""
        read: Reader = action.type if callable(action.type) else str
        try:
            return read(arg_string)
        except ValueError as choices:
            called = action.option_strings[-1] if action.option_strings else action.dest
            raise ConfigError(f"{called}={shown(arg_string)!r}: {choices}") from None

    def _apart(self, arguments: list[str]) -> tuple[list[str], list[str]]:
        """Return the flags with their values, and the words; everything after `--` is a word."""
        flags, words = list[str](), list[str]()
        while arguments:
            argument = arguments.pop(0)
            if argument == "--":
                return flags, [*words, *arguments]
            if argument.startswith("-") and argument != "-":
                flags += self._flag(argument, arguments)
            else:
                words.append(argument)
        return flags, words

    def _flag(self, argument: str, following: list[str]) -> list[str]:
        """Return a flag and the arguments after it that are its values, in the form that argparse takes."""
        known = self._option_string_actions
        name, equals, _ = argument.partition("=")
        if name not in known:
            flags = sorted(flag for flag in known if flag.startswith("--"))
            raise ConfigError(f"unknown flag {shown(name)}: {closest(name, flags)}choose from {', '.join(flags)}")
        takes, shape = known[name].nargs, known[name].metavar or "VALUE"
        if equals:
            if takes == 0:
                raise ConfigError(f"{shown(argument)}: {name} takes no value")
            return [argument]
        if takes is None:  # one value, which may begin with a minus
            if not following or following[0].partition("=")[0] in known:
                raise ConfigError(f"{name} needs a value: write {name} {shape}")
            return [f"{name}={following.pop(0)}"]
        if takes == "?" and following and not following[0].startswith("-") and "=" not in following[0]:
            return [f"{name}={following.pop(0)}"]
        taken = []
        while takes == "+" and following and not following[0].startswith("-"):
            taken.append(following.pop(0))
        if takes == "+" and not taken:
            raise ConfigError(f"{name} needs a value: write {name} {shape} ...")
        return [argument, *taken]


# ---------------------------------------------------------------------------------- the values of flags

Reader = Callable[[str], Any]
"""Converts the text of a flag's value, or raises ValueError with a message that names the choices."""


def one_of(choices: Collection[str]) -> Reader:
    """Return a reader of one of several names."""

    def read(text: str) -> str:
        if text not in choices:
            raise ValueError(f"{closest(text, choices)}choose {', '.join(choices)}")
        return text

    return read


def several(read_each: Reader, example: str) -> Reader:
    """Return a reader of one or several different values, separated by commas."""

    def read(text: str) -> list[Any]:
        read_values = [read_each(part) for part in text.split(",")]
        if len(set(read_values)) < len(read_values):
            raise ValueError(f"choose different values, as in {example}")
        return read_values

    return read


def whole(least: int = 1, what: str = "a whole number", most: int | None = None) -> Reader:
    """Return a reader of a whole number from `least` to `most`."""
    choices = f"choose {what}, at least {least}" + ("" if most is None else f" and at most {most}")

    def read(text: str) -> int:
        if not re.fullmatch(r"[+-]?[0-9]{1,18}", text) or not least <= int(text) <= (10**18 if most is None else most):
            raise ValueError(choices)
        return int(text)

    return read


def above_0(most: float) -> Reader:
    """Return a reader of a number above 0 and at most `most`."""

    def read(text: str) -> float:
        number = float(text) if re.fullmatch(r"[0-9]*\.?[0-9]*(e-?[0-9]+)?", text) and text[:1] != "e" else math.nan
        if not 0 < number <= most:
            raise ValueError(f"choose a number above 0 and at most {most:g}")
        return number

    return read


def path(text: str) -> Path:
    """Read the path of a file or folder."""
    if not text:
        raise ValueError("choose a path")
    return Path(text)


def name(text: str) -> str:
    """Read a text that is not empty."""
    if not text:
        raise ValueError("choose a name")
    return text
