"""Compose the typed settings of one cell from words of the command line, with Hydra or without.

Only `dae-ssl run` needs Hydra, for sweeps; without Hydra the same words give the same cell.
"""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from dae_ssl import config
from dae_ssl.config import Cell, ConfigError, Method, closest
from dae_ssl.experiments import merged
from jobs import scales, values

PARTS = tuple(name for name in Cell.__dataclass_fields__ if name != "method")


def register() -> None:
    """Register with Hydra every setting with its default, and every method, scale and variant as a group option."""
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
    """Return the cell that NAME=VALUE words describe, with the scale and variant in `named`, if any.

    Settings that are not named have their defaults. Raises ConfigError for a word that cannot be parsed or that names
    no setting.
    """
    given = values.parsed(words)
    check([name for name, _ in given], [value for name, value in given if name == "method"])
    changed = values.nested(("method.name" if name == "method" else name, value) for name, value in given)
    return cell(merged(scales.settings(named), changed))


def check(names: Sequence[str], methods: Collection[object]) -> None:
    """Raise ConfigError if there is no method, or if a name is not a setting of a cell with one of the methods."""
    if not methods:
        choices = ", ".join(sorted(Method.registry))
        raise ConfigError(f"the method is missing: write method=NAME, where NAME is one of {choices}")
    known = {"method"} | config.flat(config.settings(config.cell(method="random"))).keys()
    for method in methods:
        known |= {f"method.{setting}" for setting in config.settings(config.method(str(method), {}))}
    for name in names:
        if name not in known - {"method.name"} and name not in PARTS:
            group = [k for k in known if k.startswith(name.split(".")[0] + ".") and k != "method.name"]
            choices = ", ".join(sorted(group or known - {"method.name"}))
            raise ConfigError(f"unknown setting {name}: {closest(name, known)}choose from {choices}")


def cell(given: Mapping[str, Any]) -> Cell:
    """Return the cell that composed settings describe, without the settings on where it runs."""
    return config.cell({part: given[part] for part in (*PARTS, "method") if part in given})
