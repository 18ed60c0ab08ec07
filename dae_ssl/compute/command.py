"""Compose the commands that pages and messages name."""

import json
import re
import shlex
from typing import Any

from dae_ssl import config
from dae_ssl.config import Cell

PROGRAM = "dae-ssl"
DATA = f"{PROGRAM} data --help"
"""The command that explains how images are prepared."""
STORE = "--store FOLDER"
"""The flag that names the store in every command."""

_PLAIN = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]*")
_TAKEN = {"null", "true", "false", "nan", "inf", "infinity", "yes", "no", "on", "off"}
"""The words that Hydra or YAML does not read as text."""


def differing(cell: Cell) -> dict[str, tuple[Any, Any]]:
    """Return every setting that is not at its default, as {"method.alpha": (value, default)}, including the seed."""
    usual = config.flat(config.settings(Cell(method=type(cell.method)())))
    settings = config.flat(config.settings(cell))
    return {name: (value, usual[name]) for name, value in settings.items() if value != usual[name]}


def run_again(cell: Cell) -> str:
    """Return the command that computes the cell, quoted for a shell, without the settings at their defaults."""
    overrides = [f"{name}={_hydra(value)}" for name, (value, _) in differing(cell).items()]
    return shlex.join([PROGRAM, "run", f"method={cell.method.name}", *overrides])


def on_ranks(ranks: int) -> str:
    """Return what replaces the program's name in a command that pretrains on several ranks of one machine."""
    return f"torchrun --standalone --nproc-per-node={ranks} -m jobs"


def _hydra(value: Any) -> str:
    """Return a plain value in Hydra's override grammar."""
    if isinstance(value, list):
        return f"[{','.join(_hydra(item) for item in value)}]"
    if isinstance(value, str):
        plain = _PLAIN.fullmatch(value) and value.lower() not in _TAKEN
        return value if plain else quoted(value)
    return json.dumps(value)


def quoted(text: str) -> str:
    """Return a text in quotes, which Hydra reads as the same text."""
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"
