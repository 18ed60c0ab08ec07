"""Change nested settings leaf by leaf, decide whether changed cells are another study, and name the changes."""

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from dae_ssl.config import Cell

Settings = Mapping[str, Any]
"""Nested settings of a cell without its seed; settings that are left out have the base's values."""


def merged(settings: Settings, changes: Settings) -> dict[str, Any]:
    """Return nested settings in which `changes` replace the values, leaf by leaf."""
    whole = dict(settings)
    for name, value in changes.items():
        nested = isinstance(value, Mapping) and isinstance(whole.get(name), Mapping)
        whole[name] = merged(whole[name], value) if nested else value
    return whole


def another_study(base: Cell, usual: Cell) -> bool:
    """Return whether cells with the base `base` belong to another study than cells with the base `usual`.

    They do if a setting differs that decides what is learned and how it is measured: images, views, networks, length,
    schedule, features, probe. A different precision does not make another study, since it only changes the arithmetic;
    nor do seeds and floors, which only change the number of cells.
    """
    return replace(base, precision=usual.precision) != usual


def called(scales: Iterable[str], changes: Settings) -> str:
    """Return the name of the changes to an experiment, which is part of the name of its page; "" without changes.

    scales: the names of the scale and variant. Other changes are named by a hash, except the precision, which is named
    by its value.
    """
    usual = Cell.precision
    precision = str(changes.get("precision", usual))
    others = {name: value for name, value in changes.items() if name != "precision"}
    hashed = hashlib.sha256(json.dumps(others, sort_keys=True).encode()).hexdigest()[:8]
    return "-".join([*scales, *([hashed] if others else []), *([precision] if precision != usual else [])])
