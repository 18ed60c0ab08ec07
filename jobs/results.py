"""Carry what was measured from one store to another, as a file of numbers that can be kept with the code.

python -m jobs.results save experiment=study scale=small to=results/study-small.jsonl
python -m jobs.results load results/study-small.jsonl store=store

What is loaded is shown by jobs.report, copied by jobs.sync_mlflow, and not computed again. A file that is there already
is added to. Features do not travel, and weights only where they are asked for: a node that needs what stayed behind has
it computed again.

  weights=true         save: also the final encoders, as weights/KEY.safetensors beside the file, listed in a README.md
  weights=FOLDER       save: in another folder; load: from it (else from `weights` beside the file, where that is)
"""

import argparse
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import dae_ssl.training.methods  # noqa: F401  (registers every method)
from dae_ssl import config
from dae_ssl.compute import cells, encoders
from dae_ssl.compute.archive import Archive, File
from dae_ssl.compute.encoders import Encoder
from dae_ssl.config import Cell, ConfigError, require
from dae_ssl.experiments.form import Pictures, Strengths
from dae_ssl.files import StoreError, explained
from dae_ssl.store import Store
from jobs import experiment, flags
from jobs.experiment import Asked

BESIDE = "weights"
"""The folder of encoders beside a file of results."""
BESIDE_BYTES = 20 << 20
"""What may lie there, since it is kept with the code: the first fourteen cells in order of their worth."""


def main(arguments: Sequence[str]) -> None:
    """Save or load."""
    verb, *further = arguments  # experiment.run shows the usage where there is none
    require(verb in ("save", "load"), "what to do", verb, "save or load")
    save(further) if verb == "save" else load(further)


def save(arguments: Sequence[str]) -> None:
    """Write what the store has of an experiment's cells."""
    asked = experiment.asked(arguments, to=None, weights=None)
    if asked.options["to"] is None:
        raise ConfigError("to is not given: name a file, as in to=results/study-small.jsonl")
    kept = Kept.asked(asked, "to")
    path, folder = kept.file.path, kept.folder
    if not (Archive.read(path).nodes or any(cells.current_records(cell, asked.store) for cell in asked.cells)):
        raise StoreError(
            f"nothing of {asked.experiment.name} is done in {asked.store.root}: name the store, as store=S"
        )
    archive, new, brought, left_out = kept.write(asked, asked.cells)
    wanted = {id for cell in asked.cells for id in config.keys(cell).items()}
    there = len(wanted & archive.nodes.keys())
    print(f"{path}: {len(archive.nodes)} nodes of {len(archive.cells)} cells, {new} of them new; "
          f"{there} of the {len(wanted)} of {asked.experiment.name}")  # fmt: skip
    if folder is not None:
        print(f"{folder}: {len(encoders.found(archive, folder))} encoders, {brought} of them new" + beyond(left_out))


@dataclass
class Kept:
    """A file of results to which cells are added, with their encoders beside it if these are asked for."""

    file: File
    folder: Path | None
    """Of the encoders."""

    @classmethod
    def asked(cls, asked: Asked, option: str) -> "Kept":
        """Return what an option names, with `weights`. Raises ConfigError or StoreError for what cannot be written."""
        given = asked.options[option]
        path, example = Path(str(given)), f"a file, as in {option}=results/study-small.jsonl"
        with explained(path):
            require(isinstance(given, str) and (path.is_file() or not path.exists()), option, given, example)
        folder = weights_folder(asked.options["weights"], path)
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
    """Return where the encoders of a file of results are to be: `true` is beside it, None and `false` are nowhere."""
    require(given is None or isinstance(given, bool | str), "weights", given, "true, or a folder")
    require(given != "", "weights", given, "true, or a folder")
    if given is None or given is False or given == "false":
        return None
    folder = path.parent / BESIDE if given is True or given == "true" else Path(str(given))
    with explained(folder):
        require(not folder.exists() or folder.is_dir(), "weights", str(folder), "a folder")
    return folder


def bound(folder: Path, path: Path) -> int | None:
    """Return how many bytes of encoders may lie beside a file of results; any number in a folder that was named."""
    return BESIDE_BYTES if folder == path.parent / BESIDE else None


def beyond(left_out: int) -> str:
    """Return what is to be said of encoders that were left out, in half a sentence."""
    kept = f"they would be more than {BESIDE_BYTES >> 20} MB beside the results; weights=FOLDER takes all"
    return f"; {left_out} are left out, since {kept}" if left_out else ""


def pictured(asked: Asked) -> list[Cell]:
    """Return the cells of which an exhibit shows pictures: of every row, or of any, with their first seed."""
    found = []
    for section in asked.sections:
        kinds = {type(exhibit) for exhibit in section.exhibits}
        first = [of_row[0] for of_row in section.cells.values()]
        found += first if Pictures in kinds else first[:1] if Strengths in kinds else []
    return found


def load(arguments: Sequence[str]) -> None:
    """Put files of results into a store."""
    parser = argparse.ArgumentParser(prog="python -m jobs.results load")
    parser.add_argument("files", nargs="*", type=Path, metavar="FILE")
    parser.add_argument("--weights", metavar="FOLDER", help="of encoders; `weights` beside a file, where that is")
    flags.add_store(parser)
    given = flags.parsed(parser, arguments, "store", "weights")
    require(bool(given.files), "files", [], "one or more that jobs.results save has written")
    for path in given.files:  # all of them, before the first is loaded
        name, equals, _ = str(path).partition("=")
        there = _is_file(path)
        require(there or not equals, "option", name, "store=FOLDER, weights=FOLDER, or the name of a file")
        require(there, "file", str(path), "one that is there, written by jobs.results save")
    archives = {path: Archive.read(path) for path in given.files}
    for path, archive in archives.items():
        require(bool(archive.nodes), "file", str(path), "one that holds results")
        archive.described()  # raises for cells that this version does not know
    brought = {path: _brought(archive, path, given.weights) for path, archive in archives.items()}
    named = given.weights in (None, "false") or any(brought.values())
    require(named, "weights", given.weights, "a folder that holds encoders of these results, as KEY.safetensors")
    for path, archive in archives.items():
        new = archive.load(Store(given.store))
        print(f"{given.store}: {new} of {len(archive.nodes)} nodes of {path} are new")
        if files := brought[path]:
            new = encoders.load(files, Store(given.store))
            print(f"{given.store}: {new} of {len(files)} encoders of {next(iter(files)).parent} are new")


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:  # as for a name that is too long
        return False


def _brought(archive: Archive, path: Path, given: str | None) -> dict[Path, Encoder]:
    """Return the encoders that come with a file of results."""
    folder = weights_folder("true" if given is None else given, path)
    return {} if folder is None else encoders.found(archive, folder)


if __name__ == "__main__":
    experiment.run(main, sys.argv[1:], __doc__)
