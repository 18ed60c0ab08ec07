"""Turn a command line into cells: those of an experiment, or a single one, with their store and profile."""

import argparse
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property, partial
from pathlib import Path
from typing import Any

from dae_ssl import config, experiments
from dae_ssl.compute import cells
from dae_ssl.config import Cell, ConfigError, Method, closest, require
from dae_ssl.experiments import Experiment, Section
from dae_ssl.files import StoreError, explained
from dae_ssl.planning.profile import Profile
from dae_ssl.store import Store
from jobs import grammar, profiles, scales, settings, values

CHANGES = tuple(part for part in settings.PARTS if part != "seed")
"""The parts of a cell that can be changed for all cells of an experiment; `--seeds` sets their seeds."""

# ---------------------------------------------------------------------------------- the arguments of a parser


def add_store(parser: argparse.ArgumentParser) -> None:
    """Add the flag `--store`, which every command has."""
    usual = Path(os.environ.get("DAE_SSL_STORE") or "store")
    parser.add_argument("--store", type=grammar.path, default=usual, metavar="FOLDER",
                        help=f"folder of nodes and images; default: $DAE_SSL_STORE or ./store, now {usual}"
                        )  # fmt: skip


def require_folder(store: Path) -> None:
    """Raise ConfigError for a store that cannot be a folder: a file, a path below a file, or a broken link."""
    with explained(store):
        first = next((path for path in (store, *store.parents) if path.exists() or path.is_symlink()), None)
        require(first is None or first.is_dir(), "--store", str(store), f"another path, since {first} is not a folder")


def add_words(
    parser: argparse.ArgumentParser, usage: str, help: str, choices: Callable[[], Iterable[str]] | None = None
) -> None:
    """Add the words of a command; `choices` are a shell's completions, and without them it completes files."""
    parser.usage = f"{parser.prog} {usage} [--FLAG ...]"
    action = parser.add_argument("words", nargs="*", metavar=usage.split(maxsplit=1)[0].strip("[]."), help=help)
    if choices is not None:
        completed(action, choices)


def add_experiment(parser: argparse.ArgumentParser, usage: str = "EXPERIMENT [NAME=VALUE ...]") -> None:
    """Add the words that name an experiment and settings of all its cells, and the flags that select its cells."""
    add_words(parser, usage, "name of an experiment; NAME=VALUE changes a setting of all its cells, such as "
              "optimisation.epochs=2, except those that distinguish its rows",
              lambda: [*experiments.names(), *setting_words(CHANGES)])  # fmt: skip
    add_changes(parser)
    add_profile(parser, default=profiles.LOCAL.name)
    add_mlflow_experiment(parser)
    parser.add_argument("--seeds", type=grammar.several(grammar.whole(0, "seeds"), "0,1"), metavar="N[,N]",
                        help="seeds for which each row is computed; default: those of the experiment, which are 0, "
                        "or 0,1,2 for the study")  # fmt: skip
    parser.add_argument("--no-floors", dest="floors", action="store_false",
                        help="leave out the floors: the random encoder and the raw pixels")  # fmt: skip


def add_cell(parser: argparse.ArgumentParser, usage: str = "CELL | NAME=VALUE...") -> None:
    """Add the words that name a single cell: its key, the first characters of it, or its settings."""
    add_words(parser, usage, "key of a cell in the store, or its first characters; or the settings of a cell, such as "
              "method=dae method.alpha=1", lambda: setting_words(["seed", *CHANGES]))  # fmt: skip
    add_changes(parser)


def add_changes(parser: argparse._ActionsContainer) -> None:
    """Add the flags that name groups of settings."""
    helps = {"scale": "smaller images and fewer epochs, in cells with other keys; see jobs/scales.py",
             "variant": "settings of the published code or of others"}  # fmt: skip
    for group, options in scales.GROUPS.items():
        action = parser.add_argument(f"--{group}", type=grammar.one_of(options), metavar="NAME",
                                     help=f"{helps[group]} ({', '.join(options)})")  # fmt: skip
        completed(action, options.keys)


def add_profile(
    parser: argparse._ActionsContainer,
    default: str | None = None,
    help: str = "where cells run: local is this machine (default); or NAME of slurm/profiles/NAME.yaml; or a path",
) -> None:
    """Add the flag `--profile`."""
    completed(parser.add_argument("--profile", default=default, metavar="NAME", help=help), profiles.names)


def add_mlflow_experiment(parser: argparse._ActionsContainer) -> None:
    """Add the flag that names the experiment in MLflow."""
    parser.add_argument("--mlflow-experiment", type=grammar.name, default=cells.MLFLOW_EXPERIMENT, metavar="NAME",
                        help=f"experiment in MLflow to which the runs belong; default: {cells.MLFLOW_EXPERIMENT}"
                        )  # fmt: skip


def completed(action: argparse.Action, choices: Callable[[], Iterable[str]]) -> None:
    """Let argcomplete, if it is installed, complete the values of an action."""
    vars(action)["completer"] = lambda **_: choices()


def setting_words(parts: Sequence[str]) -> list[str]:
    """Return the completions for every setting in some parts of a cell, and for every method."""
    import dae_ssl.training.methods  # noqa: F401  (registers every method)

    methods = {kind: config.settings(kind()) for kind in Method.registry.values()}
    named = {f"method.{name}" for given in methods.values() for name in given if name != "name"}
    usual = config.flat(config.settings(config.cell(method="random")))
    known = sorted(named | {name for name in usual if name.partition(".")[0] in parts})
    return [*(f"method={name}" for name in sorted(Method.registry)), *(f"{name}=" for name in known)]


# ---------------------------------------------------------------------------------- the request


@dataclass(frozen=True)
class Asked:
    """The request of a command line that names an experiment."""

    experiment: Experiment
    sections: Sequence[Section]
    """The parts of the experiment with their cells."""
    variant: str
    """The name of the changes to the experiment's cells, as `experiments.called` returns it; "" without changes."""
    seeds: Sequence[int]
    changes: Mapping[str, Any]
    """The settings that are changed in all cells."""
    floors: Sequence[Cell]
    store: Store
    profile: Profile
    mlflow_experiment: str
    same: Sequence[str]
    """The arguments with which other commands find the same cells."""
    options: Mapping[str, Any]
    """All options of the command line."""

    @cached_property
    def cells(self) -> list[Cell]:
        """Every cell, the most valuable ones first, and each floor before the first cell that is compared with it."""
        wanted = {config.cell_key(floor) for floor in self.floors}
        with_floors = (
            [floor for floor in cells.floors(cell).values() if config.cell_key(floor) in wanted] + [cell]
            for cell in self.experiment.in_order(self.sections)
        )
        return experiments.distinct(cell for group in with_floors for cell in group)

    @cached_property
    def labelled(self) -> list[tuple[str, Cell]]:
        """Every cell with its label, each cell once."""
        labelled = [
            (f"{row.label}, seed {cell.seed}", cell)
            for section in self.sections
            for row, of_row in section.cells.items()
            for cell in of_row
        ]
        labelled += [(f"floor: {cell.method.name}, seed {cell.seed}", cell) for cell in self.floors]
        once: dict[str, tuple[str, Cell]] = {}
        for label, cell in labelled:
            once.setdefault(config.cell_key(cell), (label, cell))
        return list(once.values())


def apart(words: Sequence[str]) -> tuple[list[str], list[str]]:
    """Return the words that are names, and those that are settings, NAME=VALUE."""
    return [word for word in words if "=" not in word], [word for word in words if "=" in word]


def experiment(given: argparse.Namespace) -> Asked:
    """Return the experiment that a command line names, with its cells. Raises ConfigError for a wrong command line."""
    names, words = apart(given.words)
    known = experiments.names()
    if not names:
        raise ConfigError(f"the name of an experiment is missing: choose {', '.join(known)}")
    if len(names) > 1:
        raise ConfigError(f"{names[1]!r} is one word too many after {names[0]!r}: name only one experiment")
    if names[0] not in known:
        hint = closest(names[0], known)
        raise ConfigError(f"unknown experiment {names[0]!r}: {hint}choose {', '.join(known)}")
    asked, store = experiments.load(names[0]), Store(given.store)
    changes = _changes(words)
    every_change = experiments.merged(scales.settings(vars(given)), changes)
    seeds = list(asked.seeds if given.seeds is None else given.seeds)
    # Several parts may choose among the same cells; each cell is read once.
    sections = asked.sections(
        seeds,
        every_change,
        cache(partial(cells.validation_accuracy, store=store)),
    )
    every = [cell for section in sections for cell in section.every()]
    floors = experiments.distinct(floor for cell in every for floor in cells.floors(cell).values())
    called = [vars(given)[group] for group in scales.GROUPS if vars(given)[group] is not None]
    return Asked(
        asked, sections, experiments.called(called, changes), seeds,
        every_change, floors if given.floors else [], store,
        profiles.profile(given.profile), given.mlflow_experiment, same(given, names[0], words), vars(given),
    )  # fmt: skip


def _changes(words: Sequence[str]) -> dict[str, Any]:
    """Return the settings that are changed in all cells, nested. Raises ConfigError for any other setting."""
    changed = values.parsed(words)
    for name, _ in changed:
        if name == "seed":
            raise ConfigError("seed is a setting of a single cell: write --seeds 0,1 for an experiment")
        if name.partition(".")[0] not in CHANGES:
            raise ConfigError(f"unknown setting {name}: {closest(name, CHANGES)}choose from {', '.join(CHANGES)}")
    return values.nested(changed)


def same(given: argparse.Namespace, name: str, words: Sequence[str]) -> list[str]:
    """Return the arguments with which other commands find the cells of an experiment, without those at defaults."""
    usual = argparse.ArgumentParser()
    add_store(usual)
    stated = {"scale": given.scale, "variant": given.variant,
              "seeds": given.seeds and ",".join(map(str, given.seeds)),
              "profile": None if given.profile == profiles.LOCAL.name else given.profile,
              "store": None if given.store == usual.get_default("store") else given.store}  # fmt: skip
    flags = [part for flag, value in stated.items() if value is not None for part in (f"--{flag}", str(value))]
    return [name, *words, *flags, *([] if given.floors else ["--no-floors"])]


def cell(given: argparse.Namespace) -> Cell:
    """Return the cell that the words name by its key or by its settings. Raises ConfigError or StoreError."""
    return one_cell(given.words, given)


def one_cell(words: Sequence[str], given: argparse.Namespace) -> Cell:
    """Return the cell with a key, or with settings that are applied after the requested scale and variant."""
    names, changes = apart(words)
    if not names:
        return settings.composed(changes, vars(given))
    if changes or len(names) > 1 or any(vars(given)[group] for group in scales.GROUPS):
        advice = "name one cell by its key, or by its settings alone"
        raise ConfigError(f"{names[0]!r} is combined with other words: {advice}")
    return by_key(names[0], Store(given.store))


def by_key(beginning: str, store: Store) -> Cell:
    """Return the cell in a store whose key has this beginning. Raises StoreError unless there is exactly one."""
    return cells.known(whole_key(beginning, [folder.key for folder in store.cells()], store), store)


def whole_key(beginning: str, keys: Iterable[str], store: Store) -> str:
    """Return the key of a store's cell that has this beginning. Raises StoreError unless there is exactly one."""
    candidates = [key for key in keys if beginning and key.startswith(beginning)]
    matches = [key for key in candidates if key == beginning] or candidates
    if not matches:
        advice = "`dae-ssl status EXPERIMENT` shows the keys of cells, and settings are written NAME=VALUE"
        raise StoreError(f"no cell in {store.root} has a key that begins with {beginning!r}: {advice}")
    if len(matches) > 1:
        count = f"{len(matches)} cells in {store.root} have keys that begin with {beginning!r}"
        raise StoreError(f"{count}: give more characters of the key")
    return matches[0]
