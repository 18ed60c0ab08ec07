"""What a setting takes: its type as people say it, and its bounds or choices as the setting itself tells them.

Nothing is listed a second time here: each setting is given a value that it cannot take, and its message says what to
choose instead.
"""

import json
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from dataclasses import MISSING, Field
from typing import Any

from dae_ssl.config import ConfigError

WORDS = {int: "whole number", float: "number", str: "text", bool: "true or false"}
IMPOSSIBLE: Mapping[Any, Any] = {int: -1, float: -1.0, str: "?!"}
"""What no setting takes that has bounds or choices."""

Build = Callable[[Mapping[str, Any]], object]
"""Makes the dataclass of some settings, or raises ConfigError."""


def taken(kind: type[Any], name: str, build: Build) -> str:
    """Return what the field of a dataclass of settings takes; `build` makes the dataclass of some of its settings."""
    plain, listed, nullable = _apart(typing.get_type_hints(kind)[name])
    tried = [] if plain is bool else [IMPOSSIBLE.get(plain, "?!")]
    choices = _refusal(name, [tried, []] if listed else tried, build)
    words = f"list, each a {WORDS[plain]}" if listed else WORDS.get(plain, "text")
    if nullable and not choices.startswith("null"):
        words += " or null"
    says_all = words == WORDS[str] or choices.startswith(f"a {words}")
    return choices if choices and says_all else f"{words}: {choices}" if choices else words


def _apart(hint: Any) -> tuple[Any, bool, bool]:
    """Return the plain type in a field's, whether it is a list of it, and whether it may be null."""
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        (some,) = (part for part in typing.get_args(hint) if part is not type(None))
        return *_apart(some)[:2], True
    listed = typing.get_origin(hint) is tuple
    return (typing.get_args(hint)[0] if listed else hint), listed, False


def _refusal(name: str, values: Sequence[Any], build: Build) -> str:
    """Return what there is to choose instead of the first of some values that a setting refuses; "" if it takes all."""
    for value in values:
        try:
            build({name: value})
        except ConfigError as error:
            return str(error).partition(": choose ")[2]
    return ""


def default(field: Field[Any]) -> str:
    """Return the default of a field as it is written on a command line; nothing where it has none."""
    if field.default is MISSING:
        return ""
    value = field.default
    return value if isinstance(value, str) else json.dumps(value, separators=(",", ":"), ensure_ascii=False)
