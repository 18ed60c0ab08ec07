"""From the command line to an experiment's cells, the store they live in and the profile they run with."""

import difflib
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property, partial
from pathlib import Path
from typing import Any, NoReturn

import dae_ssl.training.methods  # noqa: F401  (registers every method)
from dae_ssl import config, experiments
from dae_ssl.cluster.queue import SlurmError
from dae_ssl.compute import cells
from dae_ssl.config import Cell, ConfigError
from dae_ssl.experiments import Experiment, Section
from dae_ssl.files import StoreError
from dae_ssl.planning.profile import Profile
from dae_ssl.store import Store
from jobs import scales, settings, values

PROFILES = Path(__file__).parents[1] / "slurm" / "profiles"
LOCAL = Profile(name="local", launcher="local")
"""This machine, no scheduler: the same plan, one node after another, with progress. It is read from no file."""
USAGE = """
  experiment=NAME      which cells; see dae_ssl/experiments
  profile=NAME         how they run: local, here; slurm/profiles/NAME.yaml, or the path of such a file (local)
  store=FOLDER         where nodes are ($DAE_SSL_STORE, else ./store)
  seeds=[0,1,2]        each row is computed for each of them (the experiment's own: one, or the study's three)
  floors=false         leave out the random encoder and the raw pixels
  mlflow_experiment=N  what it is called in MLflow (dae_ssl)
  scale=small          all cells smaller, with keys of their own: the reduced study; see jobs/scales.py
  precision=bf16       pretraining's arithmetic (or tf32; fp32), on a page of its own, all else at its full length
  SETTING=VALUE        of every cell alike, as optimisation.epochs=2, but what makes a row the row it is
"""


@dataclass(frozen=True)
class Asked:
    """What a command was asked for."""

    experiment: Experiment
    sections: Sequence[Section]
    """Its parts with their cells."""
    variant: str
    """What tells its cells from the experiment's own, as `experiments.called` has it."""
    seeds: Sequence[int]
    changes: Mapping[str, Any]
    """Settings of all cells alike."""
    floors: Sequence[Cell]
    store: Store
    profile: Profile
    mlflow_experiment: str
    options: Mapping[str, Any]
    """The command's own options."""

    @cached_property
    def cells(self) -> list[Cell]:
        """Every cell, what is worth most first, floors before the first that needs them."""
        wanted = {config.cell_key(floor) for floor in self.floors}
        beside = (
            [floor for floor in cells.floors(cell).values() if config.cell_key(floor) in wanted] + [cell]
            for cell in self.experiment.in_order(self.sections)
        )
        return experiments.distinct(cell for together in beside for cell in together)

    @cached_property
    def labelled(self) -> list[tuple[str, Cell]]:
        """Every cell with what people call it, each once."""
        found = [
            (f"{row.label}, seed {cell.seed}", cell)
            for section in self.sections
            for row, of_row in section.cells.items()
            for cell in of_row
        ]
        found += [(f"floor: {cell.method.name}, seed {cell.seed}", cell) for cell in self.floors]
        once: dict[str, tuple[str, Cell]] = {}
        for label, cell in found:
            once.setdefault(config.cell_key(cell), (label, cell))
        return list(once.values())


def asked(arguments: Sequence[str], **options: Any) -> Asked:
    """Return what the command line asks for; `options` are the command's own, with their defaults.

    Raises ConfigError for a name or value that cannot be.
    """
    store = os.environ.get("DAE_SSL_STORE", "store")
    own = {"experiment": None, "profile": "local", "store": store, "seeds": None, "floors": True,
           "mlflow_experiment": cells.MLFLOW_EXPERIMENT} | options  # fmt: skip
    given, changes, variant = _parsed(arguments, own)
    if given["experiment"] is None:
        raise ConfigError(f"experiment is not given: choose {', '.join(experiments.names())}")
    experiment = experiments.load(str(given["experiment"]))
    where = Store(Path(given["store"]))
    seeds = _seeds(given["seeds"], experiment)
    # Parts that choose among the same cells read each once.
    sections = experiment.sections(seeds, changes, cache(partial(cells.validation_accuracy, store=where)))
    every = [cell for section in sections for cell in section.every()]
    floors = experiments.distinct(floor for cell in every for floor in cells.floors(cell).values())
    return Asked(
        experiment, sections, variant, seeds, changes, floors if given["floors"] else [], where,
        profile(str(given["profile"])), str(given["mlflow_experiment"]), {name: given[name] for name in options},
    )  # fmt: skip


def _seeds(given: Any, experiment: Experiment) -> list[int]:
    seeds = list(experiment.seeds) if given is None else given if isinstance(given, list) else [given]
    whole = bool(seeds) and all(isinstance(seed, int) for seed in seeds) and len(set(seeds)) == len(seeds)
    config.require(whole, "seeds", seeds, "different whole numbers, as in [0,1]")
    return seeds


def _parsed(arguments: Sequence[str], own: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any], str]:
    """Return the command's own options, the changes to every cell as nested settings, and what these are called."""
    words = values.parsed(arguments)
    given, changed, called = dict(own), [], []
    parts = [part for part in settings.PARTS if part != "seed"]  # which the experiment gives, by `seeds`
    for name, value in words:
        if name in own:
            same = own[name] is None or isinstance(value, type(own[name]))
            config.require(same, name, value, "true or false" if isinstance(own[name], bool) else "a name")
            given[name] = value
        elif name in scales.GROUPS:
            called.append(str(value))
        elif name.partition(".")[0] in parts:
            changed.append((name, value))
        else:
            known = [*own, "scale", *parts]
            close = difflib.get_close_matches(name, known, n=1)
            hint = f"did you mean {close[0]}? " if close else ""
            raise ConfigError(f"unknown setting {name}: {hint}choose from {', '.join(known)}")
    changes = values.nested(changed)
    return given, experiments.merged(settings.scaled(words), changes), experiments.called(called, changes)


def profile(name: str) -> Profile:
    """Return the profile of a name, or of a path to a file. Raises ConfigError, one line, if it cannot be."""
    if name == LOCAL.name:
        return LOCAL
    path = Path(name) if name.endswith((".yaml", ".yml")) else PROFILES / f"{name}.yaml"
    known = ", ".join(sorted([LOCAL.name, *(p.stem for p in PROFILES.glob("*.yaml"))]))
    config.require(path.is_file(), "profile", name, f"{known}, or the path of a .yaml file")
    return Profile.of(path.stem, _read(path))


def _read(path: Path) -> dict[str, Any]:
    try:
        from omegaconf import OmegaConf
        from omegaconf.errors import OmegaConfBaseException
        from yaml import YAMLError
    except ModuleNotFoundError as error:
        told = "OmegaConf, which reads it, is not installed here: pip install omegaconf, or choose profile=local"
        raise ConfigError(f"profile {path}: {told}") from error
    try:
        given: Any = OmegaConf.to_container(OmegaConf.load(path), resolve=True)
    except (YAMLError, OmegaConfBaseException, OSError) as error:
        raise ConfigError(f"profile {path}: {' '.join(str(error).split())}") from error
    if not isinstance(given, dict):
        raise ConfigError(f"profile {path}: write settings, as in partition: gpu")
    return given


def run(command: Any, arguments: Sequence[str], usage: str | None) -> NoReturn:
    """Run a command and exit: 0, or what it returns; 2 after one line on what cannot be done."""
    if not arguments or {"-h", "--help"} & set(arguments):
        print(f"{usage}{USAGE}")
        sys.exit(0)
    try:
        sys.exit(command(list(arguments)) or 0)
    except (ConfigError, StoreError, SlurmError) as error:
        settings.fail(error, 2)
    except ModuleNotFoundError as error:
        settings.fail_without(error)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except KeyboardInterrupt:
        settings.fail("interrupted; what was sent or computed stays", 130)
    sys.exit(0)
