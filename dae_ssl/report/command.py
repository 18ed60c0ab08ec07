"""The command that computes a cell again."""

import json
import re
import shlex
from typing import Any

from dae_ssl import config
from dae_ssl.config import Cell

_PLAIN = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]*")
_TAKEN = {"null", "true", "false", "nan", "inf", "infinity", "yes", "no", "on", "off"}
"""What Hydra or YAML would read as something other than a name."""


def differing(cell: Cell) -> dict[str, tuple[Any, Any]]:
    """Return every setting that is not the default, as {"method.alpha": (value, default)}; seed and lists included."""
    usual = config.flat(config.settings(Cell(method=type(cell.method)())))
    given = config.flat(config.settings(cell))
    return {name: (value, usual[name]) for name, value in given.items() if value != usual[name]}


def run_again(cell: Cell) -> str:
    """Return the command that computes the cell, quoted for a shell; it leaves out what is at its default."""
    overrides = [f"{name}={_hydra(value)}" for name, (value, _) in differing(cell).items()]
    return shlex.join(["dae-ssl", "run", f"method={cell.method.name}", *overrides])


def _hydra(value: Any) -> str:
    """Return a plain value in Hydra's override grammar."""
    if isinstance(value, list):
        return f"[{','.join(_hydra(item) for item in value)}]"
    if isinstance(value, str):
        plain = _PLAIN.fullmatch(value) and value.lower() not in _TAKEN
        return value if plain else "'" + value.replace("\\", "\\\\").replace("'", "\\'") + "'"
    return json.dumps(value)
