"""Save what was measured to a file of numbers, or load it.

  dae-ssl results save study results/study-small.jsonl --scale small
  dae-ssl results load results/study-small.jsonl

So what was measured is carried from one store to another, and kept with the code. What is loaded is shown by
`dae-ssl report`, copied by `dae-ssl sync`, and not computed again. A file that is there already is added to. Features
do not travel, and weights only where they are asked for: a node that needs what stayed behind has it computed again.
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
"""The folder of encoders beside a file of results."""
BESIDE_BYTES = 20 << 20
"""What may lie there, since it is kept with the code: the first fourteen cells in order of their worth."""


SAVING = "Write what the store has of an experiment's cells to a file of results; one that is there is added to."
LOADING = "Put what files of results hold into a store; what it has already stays as it is."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what is to be done with a file: it is saved or loaded."""
    verbs = parser.add_subparsers(metavar="save | load", dest="direction", title="what is done")
    what = "write what the store has of an experiment's cells"
    saving = verbs.add_parser("save", help=what, description=SAVING, prog=f"{parser.prog} save")
    add_experiment(saving, "EXPERIMENT FILE [NAME=VALUE ...]")
    add_weights(saving)
    saving.set_defaults(carry=save)
    loading = verbs.add_parser(
        "load", help="put files of results into a store", description=LOADING, prog=f"{parser.prog} load"
    )
    add_words(loading, "FILE...", "files that `dae-ssl results save` has written")
    loading.add_argument("--weights", metavar="FOLDER", help="of encoders (`weights` beside a file, where that is)")
    loading.add_argument("--no-weights", action="store_true", help="numbers only")
    loading.set_defaults(carry=load)


def add_weights(parser: argparse._ActionsContainer) -> None:
    """Add whether final encoders are kept, and where."""
    parser.add_argument("--weights", nargs="?", const=True, metavar="FOLDER",
                        help="also the final encoders, as KEY.safetensors in a folder (`weights` beside the file), "
                        "listed in a README.md")  # fmt: skip


def run(given: argparse.Namespace) -> int:
    """Save or load."""
    given.carry(given)
    return 0


def save(given: argparse.Namespace) -> None:
    """Write what the store has of an experiment's cells."""
    names, changes = apart(given.words)
    if len(names) != 2:
        raise ConfigError(f"{' '.join(names)!r}: name an experiment and a file, as in study results/study-small.jsonl")
    asked = experiment(argparse.Namespace(**vars(given) | {"words": [names[0], *changes]}))
    kept = Kept.named(names[1], given.weights, "FILE")
    path, folder = kept.file.path, kept.folder
    if not (Archive.read(path).nodes or any(cells.current_records(cell, asked.store) for cell in asked.cells)):
        raise StoreError(
            f"nothing of {asked.experiment.name} is done in {asked.store.root}: name the store, as in --store FOLDER"
        )
    archive, new, brought, left_out = kept.write(asked, asked.cells)
    wanted = {id for cell in asked.cells for id in config.keys(cell).items()}
    there = len(wanted & archive.nodes.keys())
    print(f"{path}: {len(archive.nodes)} nodes of {len(archive.cells)} cells, {new} of them new; "
          f"{there} of the {len(wanted)} of {asked.experiment.name}")  # fmt: skip
    if folder is not None:
        print(f"{folder}: {len(encoders.present(archive, folder))} encoders, {brought} of them new" + beyond(left_out))


@dataclass
class Kept:
    """A file of results to which cells are added, with their encoders beside it if these are asked for."""

    file: File
    folder: Path | None
    """Where the encoders lie; None where none are kept."""

    @classmethod
    def archive(cls, asked: Asked) -> "Kept":
        """Return what `--archive` and `--weights` name. Raises ConfigError or StoreError for what cannot be written."""
        return cls.named(asked.options["archive"], asked.options["weights"], "--archive")

    @classmethod
    def named(cls, file: object, weights: object, called: str) -> "Kept":
        """Return a file and the folder of its encoders. Raises ConfigError or StoreError for what cannot be written."""
        path = Path(str(file))
        with explained(path):
            there = bool(str(file)) and (path.is_file() or not path.exists())
            require(there, called, str(file), "a file, as results/study-small.jsonl")
        folder = weights_folder(weights, path)
        if folder is not None:
            encoders.require_own(folder)
        return cls(File(path), folder)

    def write(self, asked: Asked, cells: Iterable[Cell]) -> tuple[Archive, int, int, int]:
        """Add what the store has of some cells. Raises StoreError for what cannot be written.

        Return all that the file holds, how many nodes of it are new, how many encoders are, and how many of these are
        left out because they would be too much beside it.
        """
        added, path = list(cells), self.file.path
        with self.file.adding(added, asked.store, pictured=pictured(asked)) as (archive, new):
            if self.folder is None:
                return archive, new, 0, 0
            most = bound(self.folder, path)
            brought, left_out = encoders.save(archive, self.folder, added, asked.store, at_most=most)
        return archive, new, brought, left_out


def weights_folder(given: object, path: Path) -> Path | None:
    """Return where the encoders of a file of results are to be: True is beside it, None is nowhere."""
    if given is None:
        return None
    require(given != "", "--weights", given, "a folder, or leave its name out")
    folder = path.parent / BESIDE if given is True else Path(str(given))
    with explained(folder):
        require(not folder.exists() or folder.is_dir(), "--weights", str(folder), "a folder")
    return folder


def bound(folder: Path, path: Path) -> int | None:
    """Return how many bytes of encoders may lie beside a file of results; any number in a folder that was named."""
    return BESIDE_BYTES if folder == path.parent / BESIDE else None


def beyond(left_out: int) -> str:
    """Return what is to be said of encoders that were left out, in half a sentence."""
    kept = f"they would be more than {BESIDE_BYTES >> 20} MB beside the results; --weights FOLDER takes all"
    return f"; {left_out} are left out, since {kept}" if left_out else ""


def pictured(asked: Asked) -> list[Cell]:
    """Return the cells of which an exhibit shows pictures: of every row, or of any, with their first seed."""
    found = []
    for section in asked.sections:
        kinds = {type(exhibit) for exhibit in section.exhibits}
        first = [of_row[0] for of_row in section.cells.values()]
        found += first if Pictures in kinds else first[:1] if Strengths in kinds else []
    return found


def load(given: argparse.Namespace) -> None:
    """Put files of results into a store."""
    files = [Path(word) for word in given.words]
    require(bool(files), "FILE", "", "one or more that `dae-ssl results save` has written")
    for path in files:  # all of them, before the first is loaded
        require(_is_file(path), "FILE", str(path), "one that is there, written by `dae-ssl results save`")
    archives = {path: Archive.read(path) for path in files}
    for path, archive in archives.items():
        require(bool(archive.nodes), "FILE", str(path), "one that holds results")
        archive.described()  # raises for cells that this version does not know
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
    except OSError:  # as for a name that is too long
        return False


def _brought(archive: Archive, path: Path, named: object) -> dict[Path, Encoder]:
    """Return the encoders that come with a file of results."""
    folder = weights_folder(named, path)
    return {} if folder is None else encoders.present(archive, folder)
