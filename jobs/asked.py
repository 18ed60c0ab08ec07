"""From the command line to cells: those of an experiment, or a single one, with the store and the profile they have."""

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
"""What of a cell can be changed in all cells of an experiment alike; their seeds are a flag."""

# ---------------------------------------------------------------------------------- what a parser is told of it


def add_store(parser: argparse.ArgumentParser) -> None:
    """Add the store, which every command knows."""
    usual = Path(os.environ.get("DAE_SSL_STORE") or "store")
    parser.add_argument("--store", type=grammar.path, default=usual, metavar="FOLDER",
                        help=f"where nodes and images are: $DAE_SSL_STORE, else ./store; now {usual}")  # fmt: skip


def require_folder(store: Path) -> None:
    """Raise ConfigError for a store that cannot be a folder: a file, one below a file, a link to nowhere."""
    with explained(store):
        first = next((path for path in (store, *store.parents) if path.exists() or path.is_symlink()), None)
        require(first is None or first.is_dir(), "--store", str(store), f"a folder: {first} is none")


def add_words(
    parser: argparse.ArgumentParser, usage: str, help: str, choices: Callable[[], Iterable[str]] | None = None
) -> None:
    """Add what stands on the line without a flag; `choices` are those that a shell completes, else it is files."""
    parser.usage = f"{parser.prog} {usage} [--FLAG ...]"
    action = parser.add_argument("words", nargs="*", metavar=usage.split(maxsplit=1)[0].strip("[]."), help=help)
    if choices is not None:
        completed(action, choices)


def add_experiment(parser: argparse.ArgumentParser, usage: str = "EXPERIMENT [NAME=VALUE ...]") -> None:
    """Add an experiment, and what says which of its cells, how they run, and what all of them are changed in."""
    add_words(parser, usage, "its name; NAME=VALUE is a setting of all its cells alike, as optimisation.epochs=2, but "
              "what makes a row the row it is", lambda: [*experiments.names(), *setting_words(CHANGES)])  # fmt: skip
    add_changes(parser)
    add_profile(parser, default=profiles.LOCAL.name)
    add_mlflow_experiment(parser)
    parser.add_argument("--seeds", type=grammar.several(grammar.whole(0, "seeds"), "0,1"), metavar="N[,N]",
                        help="each row is computed for each of them (the experiment's own: one, or the study's three)"
                        )  # fmt: skip
    parser.add_argument("--no-floors", dest="floors", action="store_false",
                        help="leave out the random encoder and the raw pixels")  # fmt: skip


def add_cell(parser: argparse.ArgumentParser, usage: str = "CELL | NAME=VALUE...") -> None:
    """Add a single cell: its key, or the beginning of it, or its settings."""
    add_words(parser, usage, "key of a cell in the store, or its beginning; or settings, as method=dae method.alpha=1",
              lambda: setting_words(["seed", *CHANGES]))  # fmt: skip
    add_changes(parser)


def add_changes(parser: argparse._ActionsContainer) -> None:
    """Add settings that go together under a name."""
    helps = {"scale": "all of it smaller, with keys of their own: see jobs/scales.py", "variant": "settings of others"}
    for group, options in scales.GROUPS.items():
        action = parser.add_argument(f"--{group}", type=grammar.one_of(options), metavar="NAME",
                                     help=f"{helps[group]} ({', '.join(options)})")  # fmt: skip
        completed(action, options.keys)


def add_profile(
    parser: argparse._ActionsContainer,
    default: str | None = None,
    help: str = "how they run: local, here; slurm/profiles/NAME.yaml, or the path of such a file (local)",
) -> None:
    """Add the name of a profile."""
    completed(parser.add_argument("--profile", default=default, metavar="NAME", help=help), profiles.names)


def add_mlflow_experiment(parser: argparse._ActionsContainer) -> None:
    """Add the experiment that runs belong to in MLflow."""
    parser.add_argument("--mlflow-experiment", type=grammar.name, default=cells.MLFLOW_EXPERIMENT, metavar="NAME",
                        help=f"what it is called in MLflow ({cells.MLFLOW_EXPERIMENT})")  # fmt: skip


def completed(action: argparse.Action, choices: Callable[[], Iterable[str]]) -> None:
    """Let argcomplete complete what an action takes, where that is installed."""
    vars(action)["completer"] = lambda **_: choices()


def setting_words(parts: Sequence[str]) -> list[str]:
    """Return every setting in some parts of a cell as a shell completes it, and every method."""
    import dae_ssl.training.methods  # noqa: F401  (registers every method)

    methods = {kind: config.settings(kind()) for kind in Method.registry.values()}
    named = {f"method.{name}" for given in methods.values() for name in given if name != "name"}
    usual = config.flat(config.settings(config.cell(method="random")))
    known = sorted(named | {name for name in usual if name.partition(".")[0] in parts})
    return [*(f"method={name}" for name in sorted(Method.registry)), *(f"{name}=" for name in known)]


# ---------------------------------------------------------------------------------- what was asked for


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
    same: Sequence[str]
    """The arguments by which other commands find the same cells."""
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


def apart(words: Sequence[str]) -> tuple[list[str], list[str]]:
    """Return the words that name something, and those that are settings, NAME=VALUE."""
    return [word for word in words if "=" not in word], [word for word in words if "=" in word]


def experiment(given: argparse.Namespace) -> Asked:
    """Return the experiment that a command line names, with its cells. Raises ConfigError for what cannot be."""
    names, words = apart(given.words)
    known = experiments.names()
    if not names:
        raise ConfigError(f"no experiment is named: choose {', '.join(known)}")
    if len(names) > 1:
        raise ConfigError(f"{names[1]!r} is one word too many after {names[0]!r}: name one experiment")
    if names[0] not in known:
        hint = closest(names[0], known)
        raise ConfigError(f"unknown experiment {names[0]!r}: {hint}choose {', '.join(known)}")
    asked, store = experiments.load(names[0]), Store(given.store)
    changes = _changes(words)
    every_change = experiments.merged(scales.settings(vars(given)), changes)
    seeds = list(asked.seeds if given.seeds is None else given.seeds)
    # Parts that choose among the same cells read each once.
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
    """Return the settings that all cells are changed in, nested. Raises ConfigError for another."""
    changed = values.parsed(words)
    for name, _ in changed:
        if name == "seed":
            raise ConfigError("seed is of a single cell: write --seeds 0,1 for those of an experiment's")
        if name.partition(".")[0] not in CHANGES:
            raise ConfigError(f"unknown setting {name}: {closest(name, CHANGES)}choose from {', '.join(CHANGES)}")
    return values.nested(changed)


def same(given: argparse.Namespace, name: str, words: Sequence[str]) -> list[str]:
    """Return the arguments by which other commands find the cells of an experiment; what is usual is left out."""
    usual = argparse.ArgumentParser()
    add_store(usual)
    stated = {"scale": given.scale, "variant": given.variant,
              "seeds": given.seeds and ",".join(map(str, given.seeds)),
              "profile": None if given.profile == profiles.LOCAL.name else given.profile,
              "store": None if given.store == usual.get_default("store") else given.store}  # fmt: skip
    flags = [part for flag, value in stated.items() if value is not None for part in (f"--{flag}", str(value))]
    return [name, *words, *flags, *([] if given.floors else ["--no-floors"])]


def cell(given: argparse.Namespace) -> Cell:
    """Return the one cell that words name by its key or describe. Raises ConfigError or StoreError."""
    return one_cell(given.words, given)


def one_cell(words: Sequence[str], given: argparse.Namespace) -> Cell:
    """Return the cell of a key, or of settings on top of the scale and variant that are asked for."""
    names, changes = apart(words)
    if not names:
        return settings.composed(changes, vars(given))
    if changes or len(names) > 1 or any(vars(given)[group] for group in scales.GROUPS):
        raise ConfigError(f"{names[0]!r} stands beside other words: name one cell by its key, or by its settings alone")
    return by_key(names[0], Store(given.store))


def by_key(beginning: str, store: Store) -> Cell:
    """Return the one cell in a store whose key begins so. Raises StoreError unless it is exactly one."""
    return cells.known(whole_key(beginning, [folder.key for folder in store.cells()], store), store)


def whole_key(beginning: str, keys: Iterable[str], store: Store) -> str:
    """Return the one of a store's cells' keys that begins so, or is it. Raises StoreError unless it is exactly one."""
    begin_so = [key for key in keys if beginning and key.startswith(beginning)]
    same = [key for key in begin_so if key == beginning] or begin_so
    if len(same) != 1:
        advice = "`dae-ssl status EXPERIMENT` shows their keys, and a setting is written NAME=VALUE"
        raise StoreError(f"cell {beginning!r}: {len(same)} cells of {store.root} begin so; {advice}")
    return same[0]
