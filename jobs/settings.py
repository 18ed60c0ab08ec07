"""Between the command line and typed settings: one cell, composed with Hydra or without, and mistakes in one line.

Only `jobs.run` needs Hydra, for sweeps; the same words give the same cell here.
"""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from dae_ssl import config
from dae_ssl.config import Cell, ConfigError, Method, closest
from dae_ssl.experiments import merged
from jobs import scales, values

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


def composed(words: Sequence[str], named: Mapping[str, Any]) -> Cell:
    """Return the cell of some NAME=VALUE words and of the scale and variant that are named, if they are.

    What the words leave out is at its default. Raises ConfigError for a word that is not understood or names no
    setting.
    """
    given = values.parsed(words)
    check([name for name, _ in given], [value for name, value in given if name == "method"])
    changed = values.nested(("method.name" if name == "method" else name, value) for name, value in given)
    return cell(merged(scales.settings(named), changed))


def check(names: Sequence[str], methods: Collection[object]) -> None:
    """Raise ConfigError unless each name is a setting of a cell with one of the methods, of which there must be one."""
    if not methods:
        raise ConfigError(f"method is not given: choose {', '.join(sorted(Method.registry))}")
    known = {"method"} | config.flat(config.settings(config.cell(method="random"))).keys()
    for method in methods:
        known |= {f"method.{setting}" for setting in config.settings(config.method(str(method), {}))}
    for name in names:
        if name not in known - {"method.name"} and name not in PARTS:
            group = [k for k in known if k.startswith(name.split(".")[0] + ".") and k != "method.name"]
            choices = ", ".join(sorted(group or known - {"method.name"}))
            raise ConfigError(f"unknown setting {name}: {closest(name, known)}choose from {choices}")


def cell(given: Mapping[str, Any]) -> Cell:
    """Return the cell that composed settings describe, those of where it runs left aside."""
    return config.cell({part: given[part] for part in (*PARTS, "method") if part in given})
