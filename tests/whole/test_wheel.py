"""The wheel in an environment of its own: the command and all that it needs travel in it, and work from any folder."""

import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from dataclasses import dataclass
from pathlib import Path

import pytest

from dae_ssl.store import Store

ROOT = Path(__file__).parents[2]
PACKAGES = ("dae_ssl", "jobs", "hydra_plugins", "slurm")

pytestmark = pytest.mark.slow


@dataclass(frozen=True)
class Installed:
    """An environment that has the project from its wheel, and everything else from the environment of these tests."""

    environment: Path
    folder: Path
    """Somewhere else, where commands are typed."""

    def run(self, *command: object, **variables: str) -> "subprocess.CompletedProcess[str]":
        """Run a program of the environment, with none of the variables that name this checkout or a cluster."""
        theirs = ("MLFLOW", "SLURM", "DAE_SSL", "PYTHON")
        kept = {name: value for name, value in os.environ.items() if not name.startswith(theirs)}
        program, *arguments = map(str, command)
        return subprocess.run(
            [self.environment / "bin" / program, *arguments], cwd=self.folder, capture_output=True, text=True,
            env=kept | {"OMP_NUM_THREADS": "1"} | variables, timeout=600, check=False,
        )  # fmt: skip

    def done(self, *command: object) -> str:
        """Return what a program prints that has to succeed."""
        ran = self.run(*command)
        assert ran.returncode == 0, ran.stdout + ran.stderr
        return ran.stdout


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Installed:
    folder = tmp_path_factory.mktemp("wheel")
    sources, environment = folder / "sources", folder / "environment"
    for package in PACKAGES:
        shutil.copytree(ROOT / package, sources / package, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, sources)
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet", "--no-cache-dir"]

    def succeed(*command: object) -> None:
        env = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
        ran = subprocess.run(list(map(str, command)), cwd=folder, env=env, capture_output=True, text=True, check=False)
        assert ran.returncode == 0, ran.stdout + ran.stderr

    succeed(*pip, "wheel", "--no-deps", "--no-build-isolation", "--no-index", "--wheel-dir", folder, sources)
    succeed(sys.executable, "-m", "venv", "--without-pip", environment)
    (wheel,) = folder.glob("*.whl")
    succeed(*pip, "--python", environment / "bin" / "python", "install", "--no-deps", "--no-index", wheel)
    # Its own .pth files, one of which is this checkout, are not read: the folder is one of modules, not of a site.
    (site,) = environment.glob("lib/python*/site-packages")
    theirs = next(path for path in sys.path if path.endswith("site-packages"))
    (site / "others.pth").write_text(f"{theirs}\n")
    (folder / "somewhere").mkdir()
    return Installed(environment, folder / "somewhere")


@pytest.fixture(scope="module")
def store(installed: Installed) -> Path:
    """A store with images and one cell, computed by what is installed."""
    installed.done("dae-ssl", "data", "digits", "--store", "S")
    printed = installed.done("dae-ssl", "run", "method=dae", "--scale", "miniature", "--no-floors", "--store", "S")
    assert "report: " in printed
    return installed.folder / "S"


def test_what_runs_is_what_was_installed(installed: Installed) -> None:
    files = "import dae_ssl, jobs.profiles as p; print(dae_ssl.__file__, p.__file__, p.PROFILES)"
    for path in installed.done("python", "-c", files).split():
        assert Path(path).is_relative_to(installed.environment), path
    assert os.access(Path(path).parent / "dev_cluster", os.X_OK)


def test_licence_version_and_types_travel_with_it(installed: Installed) -> None:
    """As the metadata of the wheel say it, and as a program sees it that imports the package."""
    (metadata,) = installed.environment.glob("lib/python*/site-packages/dae_ssl-*.dist-info")
    told = (metadata / "METADATA").read_text().partition("\n\n")[0].splitlines()
    assert "License-Expression: MIT" in told
    assert "License-File: LICENSE" in told
    assert (metadata / "licenses" / "LICENSE").read_bytes() == (ROOT / "LICENSE").read_bytes()
    (version,) = [line.removeprefix("Version: ") for line in told if line.startswith("Version: ")]
    seen = "import dae_ssl, pathlib; print(dae_ssl.__version__, pathlib.Path(dae_ssl.__file__).with_name('py.typed'))"
    stated, marker = installed.done("python", "-c", seen).split()
    assert stated == version == tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    assert Path(marker).is_file(), "without it type checkers take every name of the package for Any"


def test_cell_is_computed_from_any_folder(store: Path) -> None:
    for stage in ("pretrain", "features", "probe", "kmeans"):
        (record,) = store.glob(f"{stage}/*/record.json")
        assert json.loads(record.read_text())["stage"] == stage
    (report,) = store.glob("cells/*/report.html")
    assert "How to run it again" in report.read_text()


def test_profiles_and_check_work_from_any_folder(installed: Installed) -> None:
    told = installed.run("dae-ssl", "check", PATH="/nowhere")
    assert (told.returncode, told.stderr) == (0, "")
    assert told.stdout.count("\nok ") + told.stdout.startswith("ok ") == 2
    assert "profile gpu4, store S" in installed.done("dae-ssl", "plan", "tour", "--profile", "gpu4", "--store", "S")
    refused = installed.run("dae-ssl", "plan", "tour", "--profile", "gpu5")
    assert refused.stderr.startswith("error: --profile='gpu5': did you mean gpu4? choose dev, gpu4, gpu4-packed, local")
    checked = installed.run("dae-ssl", "check", "--profile", "dev").stdout
    (code,) = [line for line in checked.splitlines() if line.split()[1:2] == ["code"]]
    assert code.startswith("ok"), "what a task runs with is there too"


def test_tasks_get_a_snapshot_of_the_installation_and_of_nothing_else(installed: Installed) -> None:
    take = "import sys; from pathlib import Path; from dae_ssl.cluster.snapshot import snapshot; "
    take += "from dae_ssl.store import Store; print(snapshot(Store(Path('snapped'))))"
    digest = installed.done("python", "-c", take).strip()
    taken = Store(installed.folder / "snapped").snapshot(digest).path
    assert {path.name for path in taken.iterdir()} == set(PACKAGES)
    assert [path.name for path in (taken / "hydra_plugins").iterdir()] == ["dae_ssl_launcher.py"]
    assert os.access(taken / "slurm" / "after_task.sh", os.R_OK)
    assert (taken / "jobs" / "conf" / "run.yaml").is_file()
    said = installed.run("python", "-m", "jobs", "explain", "method=dae", PYTHONPATH=str(taken))
    assert re.match(r"[0-9a-f]{16}  ", said.stdout), said.stderr
