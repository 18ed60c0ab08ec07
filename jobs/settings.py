"""Between the command line and typed settings: one cell, composed with Hydra or without, and mistakes in one line.

Only `jobs.run_cell` needs Hydra, for sweeps; the same words give the same cell here.
"""

import difflib
import os
import sys
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from dae_ssl import config
from dae_ssl.config import Cell, ConfigError, Method
from dae_ssl.experiments import merged
from jobs import scales, values

PLACE_KEYS = ("store", "device", "floors", "mlflow_experiment")
"""What `conf/run_cell.yaml` adds: where a cell runs, which is no part of it."""
PARTS = tuple(name for name in Cell.__dataclass_fields__ if name != "method")


def register() -> None:
    """Tell Hydra every setting with its default, and every method, scale and variant as an option of its group."""
    from hydra.core.config_store import ConfigStore

    store = ConfigStore.instance()
    usual = config.settings(config.cell(method="random"))
    store.store(name="cell_defaults", node={part: usual[part] for part in PARTS})
    for name, kind in Method.registry.items():
        store.store(group="method", name=name, node=config.settings(kind()))
    for group, options in scales.GROUPS.items():
        for name, settings in options.items():
            store.store(group=group, name=name, node=dict(settings), package="_global_")


def compose(words: Sequence[str]) -> dict[str, Any]:
    """Return what some words say of one cell and of where it runs, nested; what they leave out is at its default.

    Raises ConfigError for a word that is not understood or names no setting.
    """
    given = values.parsed(words)
    own = [(name, value) for name, value in given if name not in scales.GROUPS]
    check([name for name, _ in own], [value for name, value in own if name == "method"])
    changed = {"store": os.environ.get("DAE_SSL_STORE", "store")}
    changed |= values.nested(("method.name" if name == "method" else name, value) for name, value in own)
    config.require(isinstance(changed["store"], str), "store", changed["store"], "a folder; a number in quotes")
    return merged(scaled(given), changed)


def scaled(given: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    """Return the settings of the scales and variants among some words, later ones in the place of earlier ones."""
    found: dict[str, Any] = {}
    for group, name in given:
        if group in scales.GROUPS:
            found = merged(found, scales.chosen(group, name))
    return found


def check(names: Sequence[str], methods: Collection[object]) -> None:
    """Raise ConfigError unless each name is a setting of a cell with one of the methods, of which there must be one."""
    if not methods:
        raise ConfigError(f"method is not given: choose {', '.join(sorted(Method.registry))}")
    known = {"method", *PLACE_KEYS} | config.flat(config.settings(config.cell(method="random"))).keys()
    for method in methods:
        known |= {f"method.{setting}" for setting in config.settings(config.method(str(method), {}))}
    for name in names:
        if name not in known - {"method.name"} and name not in PARTS:
            close = difflib.get_close_matches(name, known, n=1)
            hint = f"did you mean {close[0]}? " if close else ""
            group = [k for k in known if k.startswith(name.split(".")[0] + ".") and k != "method.name"]
            raise ConfigError(f"unknown setting {name}: {hint}choose from {', '.join(sorted(group or known))}")


def cell(given: Mapping[str, Any]) -> Cell:
    """Return the cell that composed settings describe, those of where it runs left aside."""
    return config.cell({part: given[part] for part in (*PARTS, "method") if part in given})


NOT_EVERYWHERE = {"hydra": "hydra-core", "omegaconf": "omegaconf", "submitit": "submitit", "mlflow": "mlflow"}
"""Packages that only some commands need, and what they are installed as."""


def fail_without(error: ModuleNotFoundError) -> None:
    """End the program with one line where a package is missing that only some commands need; else raise the error."""
    package = NOT_EVERYWHERE.get(str(error.name).partition(".")[0])
    if package is None:
        raise error
    told = f"pip install {package}; without it, jobs.submit computes experiments on this machine (profile=local)"
    fail(f"this command needs {package}, which is not installed here: {told}", 2)


def fail(reason: object, code: int) -> None:
    """End the program with one line on standard error."""
    print(f"error: {reason}", file=sys.stderr)
    sys.exit(code)
