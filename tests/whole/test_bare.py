"""The suite on a bare machine: eight packages and what these need, no Hydra, no MLflow, no submitit, and no .git."""

import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from importlib.metadata import packages_distributions, requires
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import dae_ssl.training.methods  # noqa: F401  (registers every method)
from dae_ssl import config
from dae_ssl.compute import cells, provenance
from dae_ssl.store import Store
from tests.commanded import ask

ROOT = Path(__file__).parents[2]
THERE = ("torch", "numpy", "h5py", "scikit-learn", "scipy", "matplotlib", "pillow", "tqdm")
ABSENT = {
    "hydra",
    "hydra_plugins",
    "omegaconf",
    "antlr4",
    "submitit",
    "mlflow",
    "yaml",
    "torchvision",
    "skimage",
    "kornia",
}
COMMIT = "0123456789abcdef0123456789abcdef01234567"
TOUR = [
    "tour", "data.pretrain_images=128", "data.evaluate_images=300", "data.validation_images=100",
    "optimisation.epochs=1", "optimisation.checkpoints=[]", "probe.epochs=2", "kmeans.restarts=1",
]  # fmt: skip

HIDING = """
import sys

HIDDEN = frozenset({hidden!r})

class Hiding:
    def __init__(self, finder):
        self.finder = finder

    def find_spec(self, name, path=None, target=None):
        return None if name.partition(".")[0] in HIDDEN else self.finder.find_spec(name, path, target)

    def __getattr__(self, name):
        return getattr(self.finder, name)

sys.meta_path[:] = [Hiding(finder) for finder in sys.meta_path]
"""
"""What Python runs when it starts, in every process that inherits the environment: what is hidden is not installed."""


@dataclass(frozen=True)
class Bare:
    """A copy of the code without .git, with a file that names its commit, and Python that has only what is there."""

    tree: Path
    hiding: Path

    def run(self, *words: str, **variables: str) -> "subprocess.CompletedProcess[str]":
        """Run `python WORDS`, where every warning is an error."""
        theirs = ("MLFLOW", "SLURM", "DAE_SSL", "PYTHON")
        kept = {name: value for name, value in os.environ.items() if not name.startswith(theirs)}
        path = f"{self.hiding}{os.pathsep}{self.tree}"
        env = kept | {"OMP_NUM_THREADS": "1", "PYTHONPATH": path, "PYTHONWARNINGS": "error"} | variables
        command = [sys.executable, *words]
        return subprocess.run(
            command, cwd=self.hiding, env=env, capture_output=True, text=True, timeout=300, check=False
        )

    def job(self, name: str, *words: str, **variables: str) -> str:
        """Return what `dae-ssl NAME WORDS` prints, which has to succeed."""
        done = self.run("-m", "jobs", name, *words, **variables)
        assert done.returncode == 0, done.stderr
        return done.stdout


def hidden() -> set[str]:
    """Return every module that is installed here and would not be there with only THERE and what these require."""
    there, asked = set[str](), list(THERE)
    while asked:
        name = canonicalize_name(asked.pop())
        if name not in there:
            there.add(name)
            needed = map(Requirement, requires(name) or ())
            asked += [one.name for one in needed if one.marker is None or one.marker.evaluate({"extra": ""})]
    ours = {"dae_ssl", "jobs"}
    by_module = packages_distributions()
    return {top for top, names in by_module.items() if there.isdisjoint(map(canonicalize_name, names))} - ours


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory) -> Bare:
    folder = tmp_path_factory.mktemp("bare")
    for package in ("dae_ssl", "jobs", "slurm"):
        shutil.copytree(ROOT / package, folder / "tree" / package, ignore=shutil.ignore_patterns("__pycache__"))
    (folder / "tree" / "COMMIT").write_text(f"{COMMIT}\n")
    (folder / "hiding").mkdir()
    (folder / "hiding" / "sitecustomize.py").write_text(HIDING.format(hidden=sorted(hidden())))
    return Bare(folder / "tree", folder / "hiding")


def test_every_process_of_a_bare_machine_lacks_what_is_hidden_and_runs_the_copy(bare: Bare) -> None:
    assert hidden() >= ABSENT
    looks = f"from importlib.util import find_spec; print([name for name in {sorted(ABSENT)} if find_spec(name)])"
    child = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {looks!r}], check=True)"
    done = bare.run("-c", child)
    assert done.stdout.strip() == "[]", done.stderr
    where = bare.run("-c", "import dae_ssl, jobs; print(dae_ssl.__file__, *jobs.__path__)").stdout.split()
    assert all(Path(path).is_relative_to(bare.tree) for path in where)


@dataclass(frozen=True)
class Computed:
    """An experiment as a bare machine computed it, and what the commands printed on the way."""

    store: Path
    other: Path
    printed: dict[str, str]


@pytest.fixture(scope="module")
def computed(bare: Bare, tmp_path_factory: pytest.TempPathFactory) -> Computed:
    folder = tmp_path_factory.mktemp("computed")
    store, other, archive = folder / "store", folder / "other", folder / "tour.jsonl"
    tour, printed = [*TOUR, f"--store={store}"], {}
    printed["data"] = bare.job("data", "digits", "--store", str(store))
    printed["plan"] = bare.job("plan", *tour)
    printed["submit"] = bare.job("submit", *tour, "--profile=local", "--minutes=4")
    printed["status"] = bare.job("status", *tour)
    printed["report"] = bare.job("report", *tour)
    printed["save"] = bare.job("results", "save", *tour, str(archive))
    printed["load"] = bare.job("results", "load", str(archive), f"--store={other}")
    return Computed(store, other, printed)


@pytest.mark.slow
def test_experiment_is_computed_reported_saved_and_loaded_on_a_bare_machine(bare: Bare, computed: Computed) -> None:
    printed = computed.printed
    assert "5 cells (2 of them floors), profile local" in printed["plan"]
    assert "everything is computed" in printed["submit"]
    assert "19 nodes: 19 done" in printed["status"]
    assert "5 of 5 cells are measured" in printed["report"]
    assert "19 of the 19 nodes of tour" in printed["save"]
    again = bare.job("report", *TOUR, f"--store={computed.other}")
    assert "5 of 5 cells are measured" in again
    page = Path(again.splitlines()[-1])
    assert page.is_relative_to(computed.other)
    assert "Test accuracy" in page.read_text()


@pytest.mark.slow
def test_commit_of_a_copy_without_git_stands_in_every_record(computed: Computed) -> None:
    for store in (computed.store, computed.other):
        asked = ask([*TOUR, f"--store={store}"])
        records = [record for cell in asked.cells for record in cells.committed_records(cell, asked.store).values()]
        assert len(records) >= 19
        assert {record["commit"] for record in records} == {COMMIT}


@pytest.mark.slow
def test_without_mlflow_that_nothing_is_copied_is_told_once(bare: Bare, computed: Computed) -> None:
    said = "MLflow is not installed here, so nothing is copied to it now; `dae-ssl sync` copies"
    assert computed.printed["submit"].count("MLflow") == computed.printed["submit"].count(said) == 1
    tour = [*TOUR, f"--store={computed.store}"]
    named = bare.job("submit", *tour, MLFLOW_TRACKING_URI="http://me:secret@server:5000")
    assert named.count("MLflow") == named.count("nothing is copied to it at http://server:5000 now") == 1
    assert "MLFLOW_TRACKING_URI=http://server:5000 dae-ssl sync" in named
    assert "MLflow" not in bare.job("submit", *tour, MLFLOW_TRACKING_URI="")
    later = bare.run("-m", "jobs", "sync", f"--store={computed.store}")
    assert (later.returncode, later.stderr.count("\n")) == (1, 1)
    assert "cannot be used: mlflow is not installed here (nothing is lost" in later.stderr


@pytest.mark.slow
def test_single_cell_is_explained_computed_on_two_ranks_and_reported_on_a_bare_machine(
    bare: Bare, computed: Computed
) -> None:
    given = ["method=simclr", "--scale=miniature", "seed=5", "data.pretrain_images=128", "data.evaluate_images=1100",
             f"--store={computed.store}"]  # fmt: skip
    key = bare.job("explain", *given).split()[0]
    assert not (computed.store / "cells" / key).exists(), "who asks writes nothing"
    assert "≠" in bare.job("explain", *given, "--and", "method=ae", "optimisation.epochs=3")
    ranks = ["--ranks-per-machine=2", "--device=cpu"]
    bare.job("compute", *given, *ranks, DAE_SSL_COMMIT="stated\n")
    assert Path(bare.job("report", *given).strip()).is_relative_to(computed.store)
    cell = cells.described(Store(computed.store).cell(key))
    records = cells.committed_records(cell, Store(computed.store))
    assert records.keys() == set(config.STAGES)
    assert {record["commit"] for record in records.values()} == {"stated"}
    assert records["pretrain"]["ranks"] == 2


def test_profile_in_yaml_without_its_reader_is_one_line(bare: Bare, tmp_path: Path) -> None:
    refused = bare.run("-m", "jobs", "plan", "tour", "--profile=gpu4", f"--store={tmp_path}")
    assert (refused.returncode, refused.stdout) == (2, "")
    wanted = r"error: profile \S+gpu4.yaml needs OmegaConf, which is not installed: pip install omegaconf.*\n"
    assert re.fullmatch(wanted, refused.stderr), refused.stderr


def test_command_that_needs_more_than_is_there_says_so_in_one_line(bare: Bare, tmp_path: Path) -> None:
    refused = bare.run("-m", "jobs", "run", "method=dae", f"--store={tmp_path}")
    assert (refused.returncode, refused.stdout) == (2, "")
    assert re.fullmatch(r"error: this command needs hydra-core, which is not installed: .*\n", refused.stderr)


# ---------------------------------------------------------------------------------- which commit it is


def test_commit_is_the_stated_one_then_that_of_the_file_then_gits(
    bare: Bare, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(provenance.dae_ssl, "__file__", str(bare.tree / "dae_ssl" / "__init__.py"))
    monkeypatch.setenv("DAE_SSL_COMMIT", " stated\n")
    assert provenance.git_commit() == "stated"
    for odd in (" ", "a\nb", "x" * 101):
        monkeypatch.setenv("DAE_SSL_COMMIT", odd)
        assert provenance.git_commit() == COMMIT, odd
    monkeypatch.setenv("DAE_SSL_COMMIT", " ")
    assert provenance.git_commit() == COMMIT
    monkeypatch.setattr(provenance.dae_ssl, "__file__", str(tmp_path / "dae_ssl" / "__init__.py"))
    for odd in (b"\n", b"\xff\xfe", b"two words", b"x" * 101, b"a\nb"):
        (tmp_path / "COMMIT").write_bytes(odd)
        assert provenance.git_commit() is None, odd
