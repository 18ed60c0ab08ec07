"""Nested settings, changed leaf by leaf; whether changed cells are another study, and what these are called."""

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from dae_ssl.config import Cell

Settings = Mapping[str, Any]
"""Nested settings of a cell, without its seed; what is left out is the base's."""


def merged(settings: Settings, changes: Settings) -> dict[str, Any]:
    """Return nested settings with others in their place, leaf by leaf."""
    whole = dict(settings)
    for name, value in changes.items():
        nested = isinstance(value, Mapping) and isinstance(whole.get(name), Mapping)
        whole[name] = merged(whole[name], value) if nested else value
    return whole


def another_study(base: Cell, usual: Cell) -> bool:
    """Tell whether cells that are changes of `base` belong to another study than those that are changes of `usual`.

    Anything does that decides what is learned from what, for how long and how that is measured: images, views,
    networks, length, schedule, features, probe. Precision alone does not: it is the arithmetic that the same study is
    computed with. Nor do seeds and floors, which are how many cells there are.
    """
    return replace(base, precision=usual.precision) != usual


def called(scales: Iterable[str], changes: Settings) -> str:
    """Return what tells the cells of a changed experiment from its own, as its page is named: "" if nothing does.

    scales: names of files of changes. Further changes are told as a hash, but for the precision, which stands as it is.
    """
    usual = Cell.precision
    precision = str(changes.get("precision", usual))
    others = {name: value for name, value in changes.items() if name != "precision"}
    hashed = hashlib.sha256(json.dumps(others, sort_keys=True).encode()).hexdigest()[:8]
    return "-".join([*scales, *([hashed] if others else []), *([precision] if precision != usual else [])])
