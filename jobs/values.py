"""Parse NAME=VALUE into a name and a plain value as Hydra does, but without Hydra.

    null  true  7  1e-3  word  'any text'  [1,2]  and nothing, which is the empty text

A single cell needs no more. The parts of Hydra's grammar (hydra/grammar/*.g4) that stand for several values or are
computed are left out: sweeps, functions, interpolations, dictionaries, deletions. `dae-ssl run` gets them from Hydra.
"""

import math
import re
from collections.abc import Iterable
from typing import Any

from dae_ssl.config import ConfigError

_NAME = re.compile(r"\+{0,2}([A-Za-z_][\w-]*(?:\.[A-Za-z_][\w-]*)*)=[ \t]*", re.ASCII)
_QUOTED = re.compile(r"""(['"])((?:\\\\)*|.*?[^\\](?:\\\\)*)\1""", re.DOTALL)
_BARE = re.compile(r"(?:\\[\\()\[\]{}:=, \t]|[ \t]*:[ \t]*|[ \t]+(?!\Z|[] \t:,])|[\w/\-\\+.$%*@?|])+", re.ASCII)
_ESCAPED = re.compile(r"\\([\\()\[\]{}:=, \t])")
_WHOLE = r"(?:0|[1-9](?:_?\d)*)"
_POINT = rf"(?:{_WHOLE}\.|{_WHOLE}?\.\d(?:_?\d)*)"
_INT = re.compile(rf"[+-]?{_WHOLE}", re.ASCII)
_FLOAT = re.compile(rf"[+-]?(?:{_POINT}|(?:{_WHOLE}|{_POINT})e[+-]?\d(?:_?\d)*|inf|nan)", re.ASCII | re.IGNORECASE)
_SPACE = re.compile(r"[ \t]*")
_WORDS = {"null": None, "true": True, "false": False}
LONGEST_NUMBER = 40
"""The most characters of a number: more than any setting needs, and few enough to convert and print every number."""
DEEPEST = 20
"""The deepest nesting of lists, and the most parts of a name."""
SHOWN = 200
"""The most characters of an argument that a message repeats."""


def parsed(arguments: Iterable[str]) -> list[tuple[str, Any]]:
    """Return the name and value of each argument; a `+` before a name, which Hydra may need, is ignored.

    Raises ConfigError for an argument that cannot be parsed.
    """
    return [_parsed(argument) for argument in arguments]


def nested(given: Iterable[tuple[str, Any]]) -> dict[str, Any]:
    """Return values of dotted names nested, `a.b.c` as {"a": {"b": {"c": value}}}; later values replace earlier ones.

    Raises ConfigError if a name has both a value and settings below it.
    """
    whole: dict[str, Any] = {}
    for name, value in given:
        *above, last = name.split(".")
        inner = whole
        for part in above:
            inner = inner.setdefault(part, {})
            if not isinstance(inner, dict):
                raise ConfigError(f"{name}={value!r}: give {part} either a value or settings below it")
        inner[last] = value
    return whole


def _parsed(argument: str) -> tuple[str, Any]:
    begun = _NAME.match(argument)
    if begun is None:
        raise ConfigError(f"'{shown(argument)}' cannot be parsed: write NAME=VALUE, such as method.alpha=1")
    if begun.end() == len(argument):
        return begun[1], ""
    if begun[1].count(".") >= DEEPEST:
        raise ConfigError(f"{shown(argument)} cannot be parsed: its name has more than {DEEPEST} parts")
    value, end = _element(argument, begun.end(), 0)
    if argument.startswith(",", end):
        raise ConfigError(f"{shown(argument)} has more than one value: give one, or a list such as [1,2]")
    if end < len(argument):
        raise _refused(argument)
    return begun[1], value


def _element(argument: str, start: int, depth: int) -> tuple[Any, int]:
    """Return the value that begins at `start` inside `depth` lists, and the position of its end."""
    if argument.startswith("[", start):
        if depth == DEEPEST:
            raise ConfigError(f"{shown(argument)} cannot be parsed: its lists are nested more than {DEEPEST} deep")
        return _list(argument, start, depth + 1)
    if quoted := _QUOTED.match(argument, start):
        return _unquoted(quoted[2], quoted[1]), quoted.end()
    bare = _BARE.match(argument, start)
    if bare is None:
        raise _refused(argument)
    return _plain(bare[0], argument), _past_space(argument, bare.end())


def _list(argument: str, start: int, depth: int) -> tuple[list[Any], int]:
    items: list[Any] = []
    place = _past_space(argument, start + 1)
    while not argument.startswith("]", place):
        if items:
            if not argument.startswith(",", place):
                raise _refused(argument)
            place = _past_space(argument, place + 1)
        value, place = _element(argument, place, depth)
        items.append(value)
        place = _past_space(argument, place)
    return items, place + 1


def _past_space(argument: str, place: int) -> int:
    space = _SPACE.match(argument, place)
    return place if space is None else space.end()


def _plain(text: str, argument: str) -> Any:
    """Return the value of a text without quotes."""
    if text.lower() in _WORDS:
        return _WORDS[text.lower()]
    whole = _INT.fullmatch(text) is not None
    if not whole and not _FLOAT.fullmatch(text):
        return _ESCAPED.sub(r"\1", text)
    if len(text) > LONGEST_NUMBER:
        advice = f"give one of at most {LONGEST_NUMBER} characters, or put the text in quotes"
        raise ConfigError(f"{shown(argument)}: {shown(text)} is a number of {len(text)} characters: {advice}")
    number = int(text) if whole else float(text)
    if not math.isfinite(number):
        raise ConfigError(f"{shown(argument)}: {text} is not a finite number: give one, or put the word in quotes")
    return number


def _unquoted(text: str, quote: str) -> str:
    r"""Return a text without the backslashes that escape quotes in it, or backslashes at its end: it\'s -> it's."""
    return re.sub(rf"(?<!\\)\\+(?={quote}|\Z)", lambda found: "\\" * (len(found[0]) // 2), text)


def _refused(argument: str) -> ConfigError:
    advice = "write NAME=VALUE, where VALUE is a number, a word, a list such as [1,2], or any text in quotes"
    return ConfigError(f"'{shown(argument)}' cannot be parsed: {advice}")


def shown(text: str) -> str:
    """Return a text as a one-line message repeats it: cut if it is long, and with control characters escaped."""
    begun = text if len(text) <= SHOWN else f"{text[:SHOWN]}..."
    return begun if begun.isprintable() else begun.encode("unicode_escape").decode()
