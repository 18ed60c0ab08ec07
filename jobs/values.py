"""NAME=VALUE -> a name and a plain value, as Hydra would read it, without Hydra.

    null  true  7  1e-3  word  'any text'  [1,2]  and nothing, which is the empty text

That is all that one cell takes. Of Hydra's grammar (hydra/grammar/*.g4) it leaves out what stands for several values
or is computed: sweeps, functions, interpolations, dictionaries, deletions. `dae-ssl run` has those from Hydra.
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
"""Characters; more than any setting's needs, and few enough that every number can be printed and made a float."""
DEEPEST = 20
"""Lists within lists, and names below names."""
SHOWN = 200
"""Characters of an argument that a refusal repeats."""


def parsed(arguments: Iterable[str]) -> list[tuple[str, Any]]:
    """Return the name and value of each argument; a `+` before a name, as Hydra may want it, says nothing here.

    Raises ConfigError for one that is not understood.
    """
    return [_parsed(argument) for argument in arguments]


def nested(given: Iterable[tuple[str, Any]]) -> dict[str, Any]:
    """Return `a.b.c` and its value as {"a": {"b": {"c": value}}}, later ones in the place of earlier ones.

    Raises ConfigError for a setting below one that has a value itself.
    """
    found: dict[str, Any] = {}
    for name, value in given:
        *above, last = name.split(".")
        inner = found
        for part in above:
            inner = inner.setdefault(part, {})
            if not isinstance(inner, dict):
                raise ConfigError(f"{name}={value!r}: choose settings below {part}, or a value for it, not both")
        inner[last] = value
    return found


def _parsed(argument: str) -> tuple[str, Any]:
    begun = _NAME.match(argument)
    if begun is None:
        raise ConfigError(f"'{shown(argument)}' is not understood: write NAME=VALUE, as in method.alpha=1")
    if begun.end() == len(argument):
        return begun[1], ""
    if begun[1].count(".") >= DEEPEST:
        raise ConfigError(f"{shown(argument)} is not understood: its name has more than {DEEPEST} parts")
    value, end = _element(argument, begun.end(), 0)
    if argument.startswith(",", end):
        raise ConfigError(f"{shown(argument)} is more than one value: give one, or a list, as in [1,2]")
    if end < len(argument):
        raise _refused(argument)
    return begun[1], value


def _element(argument: str, start: int, depth: int) -> tuple[Any, int]:
    """Return the value that begins at `start`, within `depth` lists, and where it ends."""
    if argument.startswith("[", start):
        if depth == DEEPEST:
            raise ConfigError(f"{shown(argument)} is not understood: it has lists more than {DEEPEST} deep")
        return _list(argument, start, depth + 1)
    if quoted := _QUOTED.match(argument, start):
        return _unquoted(quoted[2], quoted[1]), quoted.end()
    bare = _BARE.match(argument, start)
    if bare is None:
        raise _refused(argument)
    return _plain(bare[0], argument), _past_space(argument, bare.end())


def _list(argument: str, start: int, depth: int) -> tuple[list[Any], int]:
    found: list[Any] = []
    place = _past_space(argument, start + 1)
    while not argument.startswith("]", place):
        if found:
            if not argument.startswith(",", place):
                raise _refused(argument)
            place = _past_space(argument, place + 1)
        value, place = _element(argument, place, depth)
        found.append(value)
        place = _past_space(argument, place)
    return found, place + 1


def _past_space(argument: str, place: int) -> int:
    space = _SPACE.match(argument, place)
    return place if space is None else space.end()


def _plain(text: str, argument: str) -> Any:
    """Return what a text without quotes stands for."""
    if text.lower() in _WORDS:
        return _WORDS[text.lower()]
    whole = _INT.fullmatch(text) is not None
    if not whole and not _FLOAT.fullmatch(text):
        return _ESCAPED.sub(r"\1", text)
    if len(text) > LONGEST_NUMBER:
        told = f"a number of {len(text)} characters: give one of at most {LONGEST_NUMBER}, or put the text in quotes"
        raise ConfigError(f"{shown(argument)}: {shown(text)} is {told}")
    number = int(text) if whole else float(text)
    if not math.isfinite(number):
        raise ConfigError(f"{shown(argument)}: {text} is no finite number: give one, or put the word in quotes")
    return number


def _unquoted(text: str, quote: str) -> str:
    r"""Return a text without the backslashes that protect quotes in it, or others at its end: it\'s -> it's."""
    return re.sub(rf"(?<!\\)\\+(?={quote}|\Z)", lambda found: "\\" * (len(found[0]) // 2), text)


def _refused(argument: str) -> ConfigError:
    told = "write NAME=VALUE, where VALUE is a number, a word, a list as in [1,2], or any text in quotes"
    return ConfigError(f"'{shown(argument)}' is not understood: {told}")


def shown(text: str) -> str:
    """Return a text, or the beginning of a long one, as a message of one line repeats it."""
    begun = text if len(text) <= SHOWN else f"{text[:SHOWN]}..."
    return begun if begun.isprintable() else begun.encode("unicode_escape").decode()
