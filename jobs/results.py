"""Save measured scores to a file, or load them into a store.

  dae-ssl results save study results/study-small.jsonl --scale small
  dae-ssl results load results/study-small.jsonl

A file of results carries scores from one store to another, and can be kept with the code. `dae-ssl report` shows loaded
results, `dae-ssl sync` copies them, and they are not computed again. Saving adds to a file that exists. Features are
never saved, and weights only with --weights: they are computed again if a new node needs them.
"""

import argparse
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from dae_ssl import config
from dae_ssl.compute import cells, encoders
from dae_ssl.compute.archive import Archive, File
from dae_ssl.compute.encoders import Encoder
from dae_ssl.config import Cell, ConfigError, require
from dae_ssl.experiments.form import Pictures, Strengths
from dae_ssl.files import StoreError, explained
from dae_ssl.store import Store
from jobs.asked import Asked, add_experiment, add_words, apart, experiment

BESIDE = "weights"
"""The name of the folder of encoders beside a file of results."""
BESIDE_BYTES = 20 << 20
"""The most bytes in this folder, which is kept with the code: the encoders of fourteen cells, most valuable first."""


SAVING = "Write the results of an experiment's cells from the store to a file, or add them to a file that exists."
LOADING = "Add files of results to a store. Results that the store has already are not changed."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the words `save` and `load`, each with its arguments."""
    verbs = parser.add_subparsers(metavar="save | load", dest="direction", title="actions")
    what = "write the results of an experiment's cells to a file"
    saving = verbs.add_parser("save", help=what, description=SAVING, prog=f"{parser.prog} save")
    add_experiment(saving, "EXPERIMENT FILE [NAME=VALUE ...]")
    add_weights(saving)
    saving.set_defaults(carry=save)
    loading = verbs.add_parser(
        "load", help="add files of results to a store", description=LOADING, prog=f"{parser.prog} load"
    )
    add_words(loading, "FILE...", "files that `dae-ssl results save` has written")
    loading.add_argument("--weights", metavar="FOLDER",
                         help="folder of encoders; default: `weights` beside the file, if it exists")  # fmt: skip
    loading.add_argument("--no-weights", action="store_true", help="load scores, but no encoders")
    loading.set_defaults(carry=load)


def add_weights(parser: argparse._ActionsContainer) -> None:
    """Add the flag that saves the final encoders too."""
    parser.add_argument("--weights", nargs="?", const=True, metavar="FOLDER",
                        help="save the final encoders too, as KEY.safetensors with a README.md that lists them, in "
                        "FOLDER; default: `weights` beside the file")  # fmt: skip


def run(given: argparse.Namespace) -> int:
    """Save or load results; return 0."""
    given.carry(given)
    return 0


def save(given: argparse.Namespace) -> None:
    """Write the results of an experiment's cells to a file. Raises ConfigError or StoreError."""
    names, changes = apart(given.words)
    if len(names) != 2:
        what = "results save needs an experiment and a file, such as study results/study-small.jsonl"
        raise ConfigError(f"{what}, and not {' '.join(names)!r}")
    asked = experiment(argparse.Namespace(**vars(given) | {"words": [names[0], *changes]}))
    kept = Kept.named(names[1], given.weights, "FILE")
    path, folder = kept.file.path, kept.folder
    if not (Archive.read(path).nodes or any(cells.current_records(cell, asked.store) for cell in asked.cells)):
        raise StoreError(
            f"no node of {asked.experiment.name} is done in {asked.store.root}: name another store with --store FOLDER"
        )
    archive, new, brought, left_out = kept.write(asked, asked.cells)
    wanted = {id for cell in asked.cells for id in config.keys(cell).items()}
    held = len(wanted & archive.nodes.keys())
    print(f"{path}: {len(archive.nodes)} nodes of {len(archive.cells)} cells, {new} of them new; "
          f"it has {held} of the {len(wanted)} nodes of {asked.experiment.name}")  # fmt: skip
    if folder is not None:
        print(f"{folder}: {len(encoders.present(archive, folder))} encoders, {brought} of them new" + beyond(left_out))


@dataclass
class Kept:
    """A file of results to which cells are added, and the folder of their encoders if these are saved too."""

    file: File
    folder: Path | None
    """The folder of the encoders; None if none are saved."""

    @classmethod
    def archive(cls, asked: Asked) -> "Kept":
        """Return the file and folder of `--archive` and `--weights`. Raises ConfigError or StoreError."""
        return cls.named(asked.options["archive"], asked.options["weights"], "--archive")

    @classmethod
    def named(cls, file: object, weights: object, called: str) -> "Kept":
        """Return a file and the folder of its encoders. Raises ConfigError or StoreError if they cannot be written."""
        path = Path(str(file))
        with explained(path):
            possible = bool(str(file)) and (path.is_file() or not path.exists())
            require(possible, called, str(file), "a file, such as results/study-small.jsonl")
        folder = weights_folder(weights, path)
        if folder is not None:
            encoders.require_own(folder)
        return cls(File(path), folder)

    def write(self, asked: Asked, cells: Iterable[Cell]) -> tuple[Archive, int, int, int]:
        """Add the results of cells from the store to the file. Raises StoreError if it cannot be written.

        Return the contents of the file, the number of new nodes, the number of new encoders, and the number of
        encoders that are left out because the folder beside the file would become too large.
        """
        added, path = list(cells), self.file.path
        with self.file.adding(added, asked.store, pictured=pictured(asked)) as (archive, new):
            if self.folder is None:
                return archive, new, 0, 0
            most = bound(self.folder, path)
            brought, left_out = encoders.save(archive, self.folder, added, asked.store, at_most=most)
        return archive, new, brought, left_out


def weights_folder(given: object, path: Path) -> Path | None:
    """Return the folder of the encoders of a file of results: True means the one beside it, None means no folder."""
    if given is None:
        return None
    require(given != "", "--weights", given, "a folder, or write --weights without a value")
    folder = path.parent / BESIDE if given is True else Path(str(given))
    with explained(folder):
        require(not folder.exists() or folder.is_dir(), "--weights", str(folder), "a folder")
    return folder


def bound(folder: Path, path: Path) -> int | None:
    """Return the most bytes of encoders in the folder beside a file of results; None, no limit, for another folder."""
    return BESIDE_BYTES if folder == path.parent / BESIDE else None


def beyond(left_out: int) -> str:
    """Return the end of a sentence on the encoders that were left out; "" if none were."""
    reason = f"all would take more than {BESIDE_BYTES >> 20} MB beside the results; --weights FOLDER saves all"
    return f"; {left_out} are left out, since {reason}" if left_out else ""


def pictured(asked: Asked) -> list[Cell]:
    """Return the cells whose pictures an exhibit shows: those of every row, or of one row, with the first seed."""
    shown = []
    for section in asked.sections:
        kinds = {type(exhibit) for exhibit in section.exhibits}
        first = [of_row[0] for of_row in section.cells.values()]
        shown += first if Pictures in kinds else first[:1] if Strengths in kinds else []
    return shown


def load(given: argparse.Namespace) -> None:
    """Add files of results to a store. Raises ConfigError or StoreError before anything is written."""
    files = [Path(word) for word in given.words]
    if not files:
        raise ConfigError("results load needs a file: name one or more that `dae-ssl results save` has written")
    for path in files:  # all of them, before the first is loaded
        if not _is_file(path):
            raise ConfigError(f"{path} is not a file: name one that `dae-ssl results save` has written")
    archives = {path: Archive.read(path) for path in files}
    for path, archive in archives.items():
        if not archive.nodes:
            raise ConfigError(f"{path} has no results: name a file that `dae-ssl results save` has written")
        archive.described()  # raises for cells that this version cannot read
    named = None if given.no_weights else True if given.weights is None else given.weights
    brought = {path: _brought(archive, path, named) for path, archive in archives.items()}
    anything = given.weights is None or given.no_weights or any(brought.values())
    require(anything, "--weights", given.weights, "a folder that holds encoders of these results, as KEY.safetensors")
    for path, archive in archives.items():
        new = archive.load(Store(given.store))
        print(f"{given.store}: {new} of {len(archive.nodes)} nodes of {path} are new")
        if encoded := brought[path]:
            new = encoders.load(encoded, Store(given.store))
            print(f"{given.store}: {new} of {len(encoded)} encoders of {next(iter(encoded)).parent} are new")


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:  # for example if the name is too long
        return False


def _brought(archive: Archive, path: Path, named: object) -> dict[Path, Encoder]:
    """Return the encoders that belong to a file of results."""
    folder = weights_folder(named, path)
    return {} if folder is None else encoders.present(archive, folder)
