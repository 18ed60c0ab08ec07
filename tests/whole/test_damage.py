"""Every kind of file of a store, damaged in every way, before every command: no traceback, no wrong number, no loss.

    DAE_SSL_CAMPAIGN=all pytest tests/whole/test_damage.py       every kind with every damage (an hour)

Without the variable, each kind and each damage is tried at least once.
"""

import hashlib
import itertools
import json
import os
import re
import shutil
import stat
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch

from dae_ssl import config
from dae_ssl.cluster import launch
from dae_ssl.compute import cells, life
from dae_ssl.compute.archive import Archive
from dae_ssl.compute.stages import Context
from dae_ssl.config import Cell
from dae_ssl.distributed import World
from dae_ssl.planning import plan
from dae_ssl.planning.profile import Profile
from dae_ssl.store import SCORES, Store
from dae_ssl.training.pretrain import Interrupted
from jobs import profiles
from tests.commanded import ask, cell_of
from tests.forked import Commands, Done
from tests.whole.test_cell import TINY

ALL = os.environ.get("DAE_SSL_CAMPAIGN") == "all"
TOUR = ["tour", "--seeds=0", "--no-floors", *TINY]
DAE = ["method=dae", "method.embedding=l2", "method.alpha=1", "views.flip=0.0", "views.crop=24",
       "optimisation.learning_rate=0.001", *TINY]  # fmt: skip
HALF = ["method=ae", *TINY]
"""A cell whose pretraining was interrupted, with a saved state."""

KINDS: Mapping[str, str] = {
    "record of pretraining": "pretrain/{pretrain}/record.json",
    "log of pretraining": "pretrain/{pretrain}/log.jsonl",
    "kept encoder": "pretrain/{pretrain}/encoder-epoch0001.*",
    "last encoder": "pretrain/{pretrain}/encoder-epoch0002.*",
    "networks": "pretrain/{pretrain}/networks.*",
    "kept pictures": "pretrain/{pretrain}/pictures-epoch0001.npz",
    "last pictures": "pretrain/{pretrain}/pictures-epoch0002.npz",
    "record of features": "features/{features}/record.json",
    "log of features": "features/{features}/log.jsonl",
    "features": "features/{features}/features.h5",
    "record of probe": "probe/{probe}/record.json",
    "log of probe": "probe/{probe}/log.jsonl",
    "probe": "probe/{probe}/probe.json",
    "correct": "probe/{probe}/correct.npz",
    "record of kmeans": "kmeans/{kmeans}/record.json",
    "log of kmeans": "kmeans/{kmeans}/log.jsonl",
    "kmeans": "kmeans/{kmeans}/kmeans.json",
    "description": "cells/{cell}/cell.json",
    "page": "cells/{cell}/report.html",
    "picture of a page": "cells/{cell}/*.png",
    "page of an experiment": "experiments/tour-*/report.html",
    "other part of an experiment": "experiments/tour-*/*",
    "record of images": "data/tiny/record.json",
    "training images": "data/tiny/train-images.npy",
    "training labels": "data/tiny/train-labels.npy",
    "test images": "data/tiny/test-images.npy",
    "test labels": "data/tiny/test-labels.npy",
    "submission": "launches/2*/launch.json",
    "tasks": "launches/2*/pretrain-0.jsonl",
    "job": "launches/2*/pretrain-0.job",
    "other tasks and jobs": "launches/2*/[fkp]*-*",
    "outcomes": "launches/2*/outcomes.jsonl",
    "state": "pretrain/{half}/**/state-*",
    "log of what was interrupted": "pretrain/{half}/log.jsonl",
    "description of what was interrupted": "cells/{halfcell}/cell.json",
    "encoder of what was interrupted": "pretrain/{half}/**/encoder-*",
    "pictures of what was interrupted": "pretrain/{half}/**/pictures-*",
    "code": "snapshots/*/dae_ssl/config.py",
    "other code": "snapshots/**/*",
    "copy in MLflow": "mlflow.db*",
}  # fmt: skip
"""Patterns of paths; a file belongs to the first kind that it matches. {KEY} stands for keys of the damaged cells."""
FOLDERS: Mapping[str, str] = {
    "node of pretraining": "pretrain/{pretrain}",
    "node of probe": "probe/{probe}",
    "stage": "probe",
    "cell": "cells/{cell}",
    "cells": "cells",
    "images": "data/tiny",
    "folder of a submission": "launches/2*",
    "launches": "launches",
    "snapshots": "snapshots",
    "experiments": "experiments",
}


# ---------------------------------------------------------------------------------- damages


def flipped(part: float) -> Callable[[bytes], bytes]:
    """Return what flips the lowest bit of the byte at a part of the file's length."""

    def flip(content: bytes) -> bytes:
        place = min(int(part * len(content)), len(content) - 1)
        return content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :] if content else b"\1"

    return flip


def another_number(content: bytes) -> bytes:
    """Change a digit of an accuracy or a loss, so that a text still reads well but says something else."""
    numbers = [*re.finditer(rb'(?:accuracy|loss|bytes)[^"]*": (?:0\.)?(\d)', content), *re.finditer(rb"(\d)", content)]
    if not numbers:
        return flipped(0.5)(content)
    place = numbers[0].start(1)
    return content[:place] + (b"9" if content[place : place + 1] != b"9" else b"4") + content[place + 1 :]


CONTENTS: Mapping[str, Callable[[bytes], bytes]] = {
    "truncated": lambda content: content[: len(content) // 2],
    "emptied": lambda _: b"",
    "flipped early": flipped(0.2),
    "flipped in the middle": flipped(0.5),
    "flipped late": flipped(0.9),
    "another number": another_number,
    "garbage": lambda _: bytes(range(256)) * 16,
    "null": lambda _: b"null\n",
    "a list": lambda _: b"[]\n",
    "lengthened": lambda content: content + content[:100],
}


def damage(how: str, path: Path, outside: Path) -> None:
    """Damage a file or a folder."""
    if how in CONTENTS:
        path.write_bytes(CONTENTS[how](path.read_bytes()))
    elif how == "unreadable":
        path.chmod(0)
    elif how == "deleted":
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    elif how == "a link":
        shutil.move(path, outside / "linked")
        path.symlink_to(outside / "linked")
    elif how == "a link to nothing":
        shutil.rmtree(path) if path.is_dir() else path.unlink()
        path.symlink_to(outside / "nothing")
    elif how == "a folder":
        path.unlink()
        path.mkdir()
        (path / "thesis.tex").write_text("years of work")
    elif how == "a file":
        shutil.rmtree(path)
        path.write_text("years of work")
    else:
        raise KeyError(how)


OF_FILES = [*CONTENTS, "unreadable", "deleted", "a link", "a link to nothing", "a folder"]
OF_FOLDERS = ["unreadable", "deleted", "a link", "a link to nothing", "a file"]


def cases() -> Iterator[tuple[str, str, bool]]:
    """Yield kinds with damages, and whether the slow commands are tried too."""
    count = itertools.count()
    for kinds, hows in ((KINDS, OF_FILES), (FOLDERS, OF_FOLDERS)):
        for number, kind in enumerate(kinds):
            for how in hows if ALL else [hows[number % len(hows)]]:
                yield kind, how, ALL or next(count) % 8 == 0


# ---------------------------------------------------------------------------------- a store that has everything


@dataclass(frozen=True)
class Whole:
    """An undamaged store, its cells, and what the commands say of it."""

    root: Path
    names: Mapping[str, str]
    """The keys that patterns of kinds name."""
    cells: Sequence[Cell]
    said: Mapping[str, Done]
    scores: Mapping[str, Mapping[str, float]]

    def paths(self, pattern: str, root: Path) -> list[Path]:
        """Return the paths of a kind."""
        return sorted(path for path in root.glob(pattern.format(**self.names)) if "__pycache__" not in path.parts)


def interrupted(cell: Cell, store: Store) -> None:
    """Begin to pretrain a cell, and stop after its first epoch is kept, with a saved state."""
    steps = iter(range(100))
    alone = World(0, 1, torch.device("cpu"))
    context = Context(store, alone, tell=lambda _: None, stop=lambda: next(steps) > 7, save_seconds=-1)
    with pytest.raises(Interrupted):
        life.compute(cell, "pretrain", context)


def settled(made: plan.Plan, store: Store, profile: Profile) -> None:
    """Write a submission as it is left when its jobs have ended."""
    sent = launch.intend(made, store, profile, experiment="tour", mlflow_experiment="tour")
    for number, array in enumerate(sent.arrays()):
        sent.settle(array, str(17 + number))
    outcome = {"task": "17_0", "code": 1, "host": "node1", "time": 1.7e9}
    sent.folder.product("outcomes.jsonl").write_text(json.dumps(outcome) + "\n")


@pytest.fixture(scope="module")
def commands() -> Iterator[Commands]:
    with Commands() as server:
        yield server


@pytest.fixture(scope="module")
def tools(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A PATH on which SLURM's queue is empty."""
    folder = tmp_path_factory.mktemp("tools")
    for name, answer in (("squeue", "true"), ("scancel", "true"), ("sbatch", "false"),
                         ("scontrol", "echo 'MaxArraySize = 1001'")):  # fmt: skip
        (folder / name).write_text(f"#!/bin/sh\n{answer}\n")
        (folder / name).chmod(0o755)
    return f"{folder}:{os.environ['PATH']}"


@pytest.fixture(scope="module")
def whole(images: Path, commands: Commands, tools: str, tmp_path_factory: pytest.TempPathFactory) -> Whole:
    folder = tmp_path_factory.mktemp("whole")
    shutil.copytree(images, folder / "store")
    store, dev = Store(folder / "store"), profiles.profile("dev")
    every = ask([*TOUR, f"--store={store.root}"]).cells
    settled(plan.make(every, store, dev, queued={}, array_size=1001), store, dev)
    done = commands.run("run", *DAE, "--no-floors", "--store", store.root, folder=folder)
    assert done.code == 0, done.said
    interrupted(cell_of(HALF), store)
    shutil.copytree(store.root, folder / "copy")  # in which what was interrupted is finished
    said = {}
    for name in asked(store.root, folder):
        words = asked(folder / "copy" if name == "resume" else store.root, folder)[name]
        said[name] = commands.run(*words, folder=folder, PATH=tools)
        assert said[name].code == (1 if name == "status" else 0), said[name]
    cell, half = cell_of(DAE), cell_of(HALF)
    names = config.keys(cell) | {"cell": config.cell_key(cell), "half": config.key(half, "pretrain"),
                                 "halfcell": config.cell_key(half)}  # fmt: skip
    return Whole(store.root, names, every, said, {config.cell_key(one): cells.scores(one, store) for one in every})


def asked(store: Path, folder: Path) -> dict[str, list[object]]:
    """Return the commands of the campaign."""
    words = [*TOUR[1:], "--store", store]
    dev = [*words, "--profile=dev"]
    key = config.cell_key(cell_of(DAE))
    return {
        "plan": ["plan", "tour", *dev],
        "status": ["status", "tour", *dev],
        "logs": ["logs", key, "--store", store],
        "cancel": ["cancel", "tour", *dev],
        "save": ["results", "save", "tour", folder / "saved.jsonl", *words],
        "report": ["report", "tour", *words],
        "run": ["run", *DAE, "--no-floors", "--no-mlflow", "--store", store],
        "resume": ["run", *HALF, "--no-floors", "--no-mlflow", "--store", store],
    }


QUICK = ("plan", "status", "logs", "cancel", "save")
READING = ("plan", "status", "logs", "cancel", "save")
"""Commands that leave the store as it is."""


# ---------------------------------------------------------------------------------- what must not happen


def tree(root: Path) -> dict[str, tuple[int, str]]:
    """Return the mode and the content of everything below a folder."""
    return {str(path.relative_to(root)): (path.lstat().st_mode, content(path)) for path in sorted(root.rglob("*"))}


def content(path: Path) -> str:
    if path.is_symlink():
        return str(path.readlink())
    if stat.S_ISREG(path.stat().st_mode):
        return hashlib.sha256(path.read_bytes()).hexdigest()
    return ""


PERCENT = re.compile(r"\b\d+\.\d\d\b(?= ?%| \[)")


def numbers(text: str) -> set[str]:
    """Return the accuracies in a text."""
    return set(PERCENT.findall(text))


def faults(name: str, done: Done, whole: Whole, root: Path, folder: Path) -> Iterator[str]:
    """Yield what is wrong with how a command ended on a damaged store."""
    if "Traceback" in done.printed + done.said:
        yield f"a traceback: {(done.printed + done.said)[-1500:]}"
    if done.code not in (0, 1, 2, 3):
        yield f"exit code {done.code}: {done.said[-500:]}"
    if done.code and not done.said.strip() and name not in ("status", "plan"):
        yield f"exit code {done.code} without a word"
    if len(done.said.splitlines()) > 6:
        yield f"many lines: {done.said[-1500:]}"
    if wrong := numbers(done.printed) - numbers(whole.said[name].printed):
        yield f"other numbers {wrong}: {done.printed[-1500:]}"
    if name == "report":
        yield from wrong_tables(whole, root)
    if name == "save":
        yield from wrong_scores(whole, folder / "saved.jsonl")
    if name == "run" and done.code == 0:
        cell = cell_of(DAE)
        if cells.scores(cell, Store(root)) != whole.scores[config.cell_key(cell)]:
            yield "other scores after computing again"


def wrong_tables(whole: Whole, root: Path) -> Iterator[str]:
    for table in root.glob("experiments/tour-*/tour-accuracies.csv"):
        right = (whole.root / table.relative_to(root)).read_text()
        if wrong := set(re.findall(r"\d+\.\d+", table.read_text())) - set(re.findall(r"\d+\.\d+", right)):
            yield f"other numbers in the table: {wrong}"


def wrong_scores(whole: Whole, file: Path) -> Iterator[str]:
    """Yield nodes of a file of results whose scores are not the measured ones, or which it does not take back."""
    if file.exists():
        for (stage, key), entry in Archive.read(file).nodes.items():
            truth = json.loads((whole.root / stage / key / "record.json").read_text())
            if entry["record"].get(SCORES) != truth.get(SCORES):
                yield f"other scores are saved of {stage} {key}"


def ignored(before: Mapping[str, Any]) -> dict[str, Any]:
    """Leave out locks of folders, which commands that only read take too."""
    return {name: value for name, value in before.items() if not name.endswith("lock")}


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "how", "slowly"), list(cases()))
def test_damage_is_told_in_a_line_and_costs_no_other_file(
    kind: str, how: str, slowly: bool, whole: Whole, commands: Commands, tools: str, tmp_path: Path
) -> None:
    root, outside = tmp_path / "store", tmp_path / "outside"
    shutil.copytree(whole.root, root, symlinks=True)
    outside.mkdir()
    (outside / "thesis.tex").write_text("years of work")
    path = whole.paths({**KINDS, **FOLDERS}[kind], root)[0]
    damage(how, path, outside)
    foreign = tree(outside)
    wrong: list[str] = []
    every = asked(root, tmp_path)
    for name in every if slowly else QUICK:
        before = ignored(tree(root)) if name in READING else {}
        done = commands.run(*every[name], folder=tmp_path, PATH=tools)
        wrong += [f"{name}: {fault}" for fault in faults(name, done, whole, root, tmp_path)]
        if name in READING and ignored(tree(root)) != before:
            wrong.append(f"{name}: the store has changed")
        if tree(outside) != foreign:
            wrong.append(f"{name}: a file outside of the store has changed")
    if path.is_dir() and how == "a folder" and not (path / "thesis.tex").exists():
        wrong.append("a file that nobody accounts for is gone")
    assert not wrong, "\n".join(wrong)


def test_every_file_of_a_store_is_of_a_kind_that_is_damaged(whole: Whole) -> None:
    known = {path for pattern in KINDS.values() for path in whole.paths(pattern, whole.root)}
    other = {path.relative_to(whole.root).as_posix() for path in whole.root.rglob("*") if path.is_file()} - {
        path.relative_to(whole.root).as_posix() for path in known
    }
    keys = set(whole.names.values())
    assert {name for name in other if any(key in name for key in keys)} <= {f"pretrain/{whole.names['half']}/lock"}
    assert not {
        name for name in other if name.split("/")[0] not in ("pretrain", "features", "probe", "kmeans", "cells")
    }


def test_every_kind_is_there(whole: Whole) -> None:
    for kind, pattern in {**KINDS, **FOLDERS}.items():
        assert whole.paths(pattern, whole.root), kind
