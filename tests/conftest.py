"""What several test modules share: a development cluster, and tiny images."""

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dae_ssl.data import prepare
from dae_ssl.store import Store
from tests.commanded import DAE_SSL

ROOT = Path(__file__).parents[1]
SCRIPT = ROOT / "slurm" / "dev_cluster"


@dataclass(frozen=True)
class Cluster:
    """A development cluster that is up."""

    root: Path

    @property
    def environment(self) -> dict[str, str]:
        """What a process that is to talk to it needs."""
        return {"SLURM_CONF": str(self.root / "etc" / "slurm.conf")}

    def run(self, *command: str, **variables: str) -> "subprocess.CompletedProcess[str]":
        """Run a command as somebody on its login node, in a shell that has no SLURM or MLflow variables yet."""
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("SLURM", "SBATCH", "MLFLOW", "DAE_SSL"))}
        env = kept | self.environment | variables
        return subprocess.run(command, env=env, capture_output=True, text=True, timeout=300, check=False)

    def ask(self, *command: str) -> str:
        """Return what a command prints that has to succeed."""
        done = self.run(*command)
        assert done.returncode == 0, f"{command}: {done.stderr}"
        return done.stdout

    def dae_ssl(self, *words: str, **variables: str) -> "subprocess.CompletedProcess[str]":
        """Run `dae-ssl WORDS`."""
        return self.run(*DAE_SSL, *words, **variables)

    def power_cut(self, node: str) -> None:
        """Kill everything on a node, and have SLURM notice at once."""
        self.ask(str(SCRIPT), "fail", node, "--root", str(self.root))
        self.ask("scontrol", "update", f"nodename={node}", "state=down", "reason=failed")

    def restore(self, node: str) -> None:
        """Start a node again."""
        self.ask(str(SCRIPT), "restore", node, "--root", str(self.root))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the file that takes longest, so that no worker is left alone with it at the end."""
    items.sort(key=lambda item: item.path.stem != "test_disturbances")


@pytest.fixture(scope="session")
def clusters(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Cluster]]:
    """Start development clusters by their options, each once, and stop them in the end."""
    if os.geteuid() != 0:
        pytest.skip("needs root, to start a SLURM cluster")
    for command in ("slurmctld", "slurmd", "munged"):
        if shutil.which(command) is None:
            pytest.skip(f"{command} is not installed: apt-get install --no-install-recommends slurm-wlm munge")
    started: dict[tuple[str, ...], Cluster] = {}

    def start(*options: str) -> Cluster:
        if options not in started:
            root = tmp_path_factory.mktemp("cluster") / "c"
            command = [str(SCRIPT), "up", "--root", str(root), *options]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            if done.returncode == 2:
                pytest.skip(done.stderr.strip())
            assert done.returncode == 0, done.stderr
            started[options] = Cluster(root)
        return started[options]

    yield start
    for cluster in started.values():
        subprocess.run([str(SCRIPT), "down", "--root", str(cluster.root), "--purge"], check=False, capture_output=True)


@pytest.fixture(scope="session")
def cluster(clusters: Callable[..., Cluster]) -> Cluster:
    """A cluster without accounting, on which SLURM follows processes by descent."""
    return clusters()


@pytest.fixture(scope="session")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store in which only the images are prepared: three classes of colours, 20 for training and 8 for test."""
    folder, random = tmp_path_factory.mktemp("tiny"), np.random.default_rng(0)
    for split, count in (("train", 20), ("test", 8)):
        for number, name in enumerate(("blue", "green", "red")):
            (folder / "tree" / split / name).mkdir(parents=True)
            for i in range(count):
                pixels = random.integers(0, 120, (32, 32, 3))
                pixels[..., 2 - number] += random.integers(0, 135)
                Image.fromarray(pixels.astype(np.uint8)).save(folder / "tree" / split / name / f"{i}.png")
    prepare.prepare(Store(folder / "store"), "tiny", folder / "tree", tell=lambda _line: None)
    return folder / "store"
