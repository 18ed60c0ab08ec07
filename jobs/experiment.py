"""From the command line to an experiment's cells, the store they live in and the profile they run with."""

import difflib
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import OverrideParseException
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

import dae_ssl.training.methods  # noqa: F401  (registers every method)
from dae_ssl import config, experiments
from dae_ssl.batch import cells
from dae_ssl.batch.profile import Profile
from dae_ssl.batch.queue import SlurmError
from dae_ssl.config import Cell, ConfigError
from dae_ssl.experiments import Experiment
from dae_ssl.experiments.row import Row
from dae_ssl.store import Store, StoreError
from jobs import settings

PROFILES = Path(__file__).parents[1] / "slurm" / "profiles"
SCALES = Path(__file__).parent / "conf"
USAGE = """
  experiment=NAME      which cells; see dae_ssl/experiments
  profile=NAME         how they run: slurm/profiles/NAME.yaml, or the path of such a file (local)
  store=FOLDER         where nodes are ($DAE_SSL_STORE, else ./store)
  seeds=[0,1,2]        each row of the experiment is computed for each of them
  floors=false         leave out the random encoder and the raw pixels
  mlflow_experiment=N  what it is called in MLflow (dae_ssl)
  SETTING=VALUE        of every cell alike, as optimisation.epochs=2, or +scale=demo; see jobs.run_cell
"""


@dataclass(frozen=True)
class Asked:
    """What a command was asked for."""

    experiment: Experiment
    rows: Mapping[Row, Sequence[Cell]]
    floors: Sequence[Cell]
    store: Store
    profile: Profile
    mlflow_experiment: str
    options: Mapping[str, Any]
    """The command's own options."""

    @property
    def cells(self) -> list[Cell]:
        """Every cell, the floors last."""
        return [cell for row in self.rows.values() for cell in row] + list(self.floors)


def asked(arguments: Sequence[str], **options: Any) -> Asked:
    """Return what the command line asks for; `options` are the command's own, with their defaults.

    Raises ConfigError for a name or value that cannot be.
    """
    store = os.environ.get("DAE_SSL_STORE", "store")
    own = {"experiment": None, "profile": "local", "store": store, "seeds": list(experiments.SEEDS), "floors": True,
           "mlflow_experiment": cells.MLFLOW_EXPERIMENT} | options  # fmt: skip
    given, changes = _parsed(arguments, own)
    if given["experiment"] is None:
        raise ConfigError(f"experiment is not given: choose {', '.join(experiments.names())}")
    experiment = experiments.load(str(given["experiment"]))
    seeds = given["seeds"] if isinstance(given["seeds"], list) else [given["seeds"]]
    config.require(bool(seeds) and all(isinstance(s, int) for s in seeds), "seeds", seeds, "whole numbers, as in [0,1]")
    rows = experiment.cells(seeds, changes)
    every = [cell for row in rows.values() for cell in row]
    floors = {config.cell_key(floor): floor for cell in every for floor in cells.floors(cell).values()}
    return Asked(
        experiment, rows, list(floors.values()) if given["floors"] else [], Store(Path(given["store"])),
        profile(str(given["profile"])), str(given["mlflow_experiment"]), {name: given[name] for name in options},
    )  # fmt: skip


def _parsed(arguments: Sequence[str], own: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the command's own options, and the changes to every cell as nested settings."""
    try:
        overrides = OverridesParser.create().parse_overrides(list(arguments))
    except OverrideParseException as error:
        raise ConfigError(f"{error.override!r} is not understood: write NAME=VALUE, as in experiment=table2") from error
    given, scales, changed = dict(own), OmegaConf.create(), OmegaConf.create()
    parts = [part for part in settings.PARTS if part != "seed"]  # which the experiment gives, by `seeds`
    known = [*own, *parts]
    for override in overrides:
        name, value = override.key_or_group, override.value()
        if name in own:
            same = own[name] is None or isinstance(value, type(own[name])) or name == "seeds"
            config.require(same, name, value, "true or false" if isinstance(own[name], bool) else "a name")
            given[name] = value
        elif name in ("scale", "variant"):
            scales = OmegaConf.merge(scales, _scale(name, str(value)))
        elif name.partition(".")[0] in parts:
            try:
                OmegaConf.update(changed, name, value)
            except OmegaConfBaseException as error:
                given_as = override.input_line or name
                raise ConfigError(f"{given_as} is no value for all cells alike: give one plain value") from error
        else:
            close = difflib.get_close_matches(name, known, n=1)
            hint = f"did you mean {close[0]}? " if close else ""
            raise ConfigError(f"unknown setting {name}: {hint}choose from {', '.join(known)}")
    changes: Any = OmegaConf.to_container(OmegaConf.merge(scales, changed), resolve=True)
    return given, changes


def _scale(group: str, name: str) -> Any:
    path = SCALES / group / f"{name}.yaml"
    config.require(path.exists(), group, name, ", ".join(sorted(p.stem for p in path.parent.glob("*.yaml"))))
    return OmegaConf.load(path)


def profile(name: str) -> Profile:
    """Return the profile of a name, or of a path to a file. Raises ConfigError, one line, if it cannot be."""
    path = Path(name) if name.endswith((".yaml", ".yml")) else PROFILES / f"{name}.yaml"
    known = ", ".join(sorted(p.stem for p in PROFILES.glob("*.yaml")))
    config.require(path.is_file(), "profile", name, f"{known}, or the path of a .yaml file")
    try:
        given: Any = OmegaConf.to_container(OmegaConf.load(path), resolve=True)
    except (YAMLError, OmegaConfBaseException, OSError) as error:
        raise ConfigError(f"profile {path}: {' '.join(str(error).split())}") from error
    if not isinstance(given, dict):
        raise ConfigError(f"profile {path}: write settings, as in partition: gpu")
    return Profile.of(path.stem, given)


def run(command: Any, arguments: Sequence[str], usage: str | None) -> NoReturn:
    """Run a command and exit: 0, or what it returns; 2 after one line on what cannot be done."""
    if not arguments or {"-h", "--help"} & set(arguments):
        print(f"{usage}{USAGE}")
        sys.exit(0)
    try:
        sys.exit(command(list(arguments)) or 0)
    except (ConfigError, StoreError, SlurmError) as error:
        settings.fail(error, 2)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except KeyboardInterrupt:
        settings.fail("interrupted; what was sent or computed stays", 130)
    sys.exit(0)
