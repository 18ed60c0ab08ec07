"""Between the command line and typed settings: Hydra's defaults from the dataclasses, and its mistakes in one line."""

import difflib
import sys
from typing import Any

import hydra
from hydra.core.config_store import ConfigStore
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import OverrideParseException
from omegaconf import DictConfig, OmegaConf

from dae_ssl import config
from dae_ssl.config import Cell, ConfigError, Method

PLACE_KEYS = ("store", "device", "floors", "mlflow_experiment")
"""What `conf/run_cell.yaml` adds: where a cell runs, which is no part of it."""
PARTS = tuple(name for name in Cell.__dataclass_fields__ if name != "method")


def register() -> None:
    """Tell Hydra every setting with its default, and every method as an option of the group `method`."""
    store = ConfigStore.instance()
    usual = config.settings(config.cell(method="random"))
    store.store(name="cell_defaults", node={part: usual[part] for part in PARTS})
    for name, kind in Method.registry.items():
        store.store(group="method", name=name, node=config.settings(kind()))


def compose(overrides: list[str]) -> DictConfig:
    """Return the configuration that `jobs.run_cell` would run with these overrides. Raises ConfigError."""
    register()
    check(overrides)
    with hydra.initialize(version_base="1.3", config_path="conf"):
        return hydra.compose("run_cell", overrides)


def check(overrides: list[str]) -> None:
    """Raise ConfigError for an override that names no setting.

    Hydra would refuse it too, but in many lines and without the choices.
    """
    try:
        parsed = [o for o in OverridesParser.create().parse_overrides(overrides) if not _is_for_hydra(o.key_or_group)]
    except OverrideParseException as error:
        raise ConfigError(f"{error.override!r} is not understood: write NAME=VALUE, as in method.alpha=1") from error
    methods = [str(name) for o in parsed if o.key_or_group == "method" for name in _values(o)]
    if not methods:
        raise ConfigError(f"method is not given: choose {', '.join(sorted(Method.registry))}")
    known = {"method", *PLACE_KEYS} | config.flat(config.settings(config.cell(method="random"))).keys()
    for name in methods:
        known |= {f"method.{setting}" for setting in config.settings(config.method(name, {}))}
    for override in parsed:
        name = override.key_or_group
        if name not in known - {"method.name"} and name not in PARTS:
            close = difflib.get_close_matches(name, known, n=1)
            hint = f"did you mean {close[0]}? " if close else ""
            group = [k for k in known if k.startswith(name.split(".")[0] + ".") and k != "method.name"]
            raise ConfigError(f"unknown setting {name}: {hint}choose from {', '.join(sorted(group or known))}")


def cell(given: DictConfig) -> Cell:
    """Return the cell that a composed configuration describes."""
    plain: Any = OmegaConf.to_container(given, resolve=True)
    return config.cell({part: plain[part] for part in (*PARTS, "method")})


def fail(reason: object, code: int) -> None:
    """End the program with one line on standard error."""
    print(f"error: {reason}", file=sys.stderr)
    sys.exit(code)


def _is_for_hydra(name: str) -> bool:
    return name.replace("/", ".").split(".", maxsplit=1)[0] in ("hydra", "scale", "variant")


def _values(override: Any) -> list[Any]:
    value = override.value()
    return list(value.list) if override.is_sweep_override() and hasattr(value, "list") else [value]
