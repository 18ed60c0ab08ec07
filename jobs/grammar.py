"""How a command line is read: words, `--flags` and `name=value`, in any order, and mistakes in one line.

What a command acts on is a word, what it does is a flag, what a cell is, is `name=value`. argparse knows the flags and
prints the help; here is what it lacks: the order, values that begin with `-`, and messages that name what was meant.
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
    """A parser whose words and flags come in any order, and whose mistakes are ConfigErrors."""

    def __init__(self, **options: Any) -> None:
        usual: dict[str, Any] = {"formatter_class": argparse.RawDescriptionHelpFormatter, "allow_abbrev": False}
        super().__init__(**(usual | options))

    def error(self, message: str) -> NoReturn:
        """Raise ConfigError with what argparse says, in the form that all other mistakes have."""
        raise ConfigError(re.sub(r"^argument (?:-\w/)?([\w-]+): ", lambda named: f"{named[1]}: ", message))

    def read(self, arguments: Sequence[str]) -> argparse.Namespace:
        """Return what the arguments say. Raises ConfigError, one line, for what is not understood."""
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
            raise ConfigError(f"{shown(words[0])!r} is one word too many: {self.prog} takes flags alone")
        return self.parse_args([*flags, *(["--", *words] if words else [])])

    def leaves(self) -> "list[Parser]":
        """Return the parsers that read arguments: those below this one, or this one itself."""
        return [leaf for kind in self._kinds().values() for leaf in kind.leaves()] or [self]

    def _kinds(self) -> "dict[str, Parser]":
        """Return the parsers below this one, by the word that chooses one."""
        below = [action for action in self._actions if isinstance(action, argparse._SubParsersAction)]
        return dict(below[0].choices) if below else {}

    def _get_value(self, action: argparse.Action, arg_string: str) -> Any:
        """Return what a flag's reader makes of the text that it was given."""
        read: Reader = action.type if callable(action.type) else str
        try:
            return read(arg_string)
        except ValueError as choices:
            called = action.option_strings[-1] if action.option_strings else action.dest
            raise ConfigError(f"{called}={shown(arg_string)!r}: {choices}") from None

    def _apart(self, arguments: list[str]) -> tuple[list[str], list[str]]:
        """Return the flags, each with the value that it takes, and the words, which all are that follow `--`."""
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
        """Return a flag as argparse takes it, with what it takes of the arguments that follow it."""
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
        if takes is None:  # one value, whatever it is: it may begin with a minus
            if not following or following[0].partition("=")[0] in known:
                raise ConfigError(f"{name} is without its value: write {name} {shape}")
            return [f"{name}={following.pop(0)}"]
        if takes == "?" and following and not following[0].startswith("-") and "=" not in following[0]:
            return [f"{name}={following.pop(0)}"]
        taken = []
        while takes == "+" and following and not following[0].startswith("-"):
            taken.append(following.pop(0))
        if takes == "+" and not taken:
            raise ConfigError(f"{name} is without its value: write {name} {shape} ...")
        return [argument, *taken]


# ---------------------------------------------------------------------------------- what a flag takes

Reader = Callable[[str], Any]
"""Makes something of the text that a flag was given, or raises ValueError with the choices there are."""


def one_of(choices: Collection[str]) -> Reader:
    """Return what reads one of some names."""

    def read(text: str) -> str:
        if text not in choices:
            raise ValueError(f"{closest(text, choices)}choose {', '.join(choices)}")
        return text

    return read


def several(read_each: Reader, example: str) -> Reader:
    """Return what reads one value or several different ones, with commas between them."""

    def read(text: str) -> list[Any]:
        found = [read_each(part) for part in text.split(",")]
        if len(set(found)) < len(found):
            raise ValueError(f"choose different ones, as in {example}")
        return found

    return read


def whole(least: int = 1, what: str = "a whole number", most: int | None = None) -> Reader:
    """Return what reads a whole number of at least so many, and at most so many."""
    choices = f"choose {what}, at least {least}" + ("" if most is None else f" and at most {most}")

    def read(text: str) -> int:
        if not re.fullmatch(r"[+-]?[0-9]{1,18}", text) or not least <= int(text) <= (10**18 if most is None else most):
            raise ValueError(choices)
        return int(text)

    return read


def above_0(most: float) -> Reader:
    """Return what reads a number above 0, and at most another."""

    def read(text: str) -> float:
        number = float(text) if re.fullmatch(r"[0-9]*\.?[0-9]*(e-?[0-9]+)?", text) and text[:1] != "e" else math.nan
        if not 0 < number <= most:
            raise ValueError(f"choose a number above 0, {most:g} at most")
        return number

    return read


def path(text: str) -> Path:
    """Read the path of a file or folder."""
    if not text:
        raise ValueError("choose a path")
    return Path(text)


def name(text: str) -> str:
    """Read any text but none."""
    if not text:
        raise ValueError("choose a name")
    return text
