"""The rooms of the house: imports point down only, a heavy library has one user, and importing does nothing.

The walls are the table ROOMS. A module is looked up under its own name, then its package's, and may import what its
row names (a package stands for everything in it), and nothing else of this project.
"""

import ast
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

GROUND = (
    "dae_ssl.config",
    "dae_ssl.store",
    "dae_ssl.lock",
    "dae_ssl.distributed",
    "dae_ssl.replay",
    "dae_ssl.data",
)
TRAINING = "dae_ssl.training"
EVALUATION = (*GROUND, f"{TRAINING}.networks", f"{TRAINING}.checkpoint")
STAGES = (*GROUND, TRAINING, "dae_ssl.evaluation", "dae_ssl.batch.done", "dae_ssl.batch.log", "dae_ssl.batch.server",
          "dae_ssl.batch.track", "dae_ssl.batch.provenance", "dae_ssl.batch.interrupt")  # fmt: skip
BATCH = ("dae_ssl.batch.stages", *STAGES)
LAUNCH = (
    "dae_ssl.batch.script",
    "dae_ssl.batch.snapshot",
    "dae_ssl.batch.plan",
    "dae_ssl.batch.tasks",
    "dae_ssl.batch.queue",
    "dae_ssl.batch.profile",
    *BATCH,
)
ROOMS: dict[str, tuple[str, ...]] = {
    "dae_ssl": (),
    "dae_ssl.config": (),
    "dae_ssl.store": (),
    "dae_ssl.lock": ("dae_ssl.store",),
    "dae_ssl.distributed": ("dae_ssl.config",),
    "dae_ssl.replay": (),
    "dae_ssl.data": GROUND[:-1],
    "dae_ssl.prepare": GROUND,
    f"{TRAINING}": (),
    f"{TRAINING}.render_triton": (),
    f"{TRAINING}.views": (*GROUND, f"{TRAINING}.render_triton"),
    f"{TRAINING}.networks": GROUND,
    f"{TRAINING}.losses": GROUND,
    f"{TRAINING}.checkpoint": GROUND,
    f"{TRAINING}.weights": (*GROUND, f"{TRAINING}.networks", f"{TRAINING}.checkpoint"),
    f"{TRAINING}.methods": (*GROUND, f"{TRAINING}.networks", f"{TRAINING}.losses", f"{TRAINING}.methods.base"),
    f"{TRAINING}.monitor": (*GROUND, f"{TRAINING}.networks", f"{TRAINING}.views"),
    f"{TRAINING}.step": (*GROUND, TRAINING),
    f"{TRAINING}.pretrain": (*GROUND, TRAINING),
    "dae_ssl.evaluation": (),
    "dae_ssl.evaluation.features": EVALUATION,
    "dae_ssl.evaluation.probe": EVALUATION,
    "dae_ssl.evaluation.kmeans": EVALUATION,
    "dae_ssl.evaluation.reconstruction": EVALUATION,
    "dae_ssl.batch": (),
    "dae_ssl.batch.done": GROUND,
    "dae_ssl.batch.log": GROUND,
    "dae_ssl.batch.server": GROUND,
    "dae_ssl.batch.track": (*GROUND, "dae_ssl.batch.log", "dae_ssl.batch.server"),
    "dae_ssl.batch.provenance": GROUND,
    "dae_ssl.batch.interrupt": GROUND,
    "dae_ssl.batch.stages": STAGES,
    "dae_ssl.batch.cells": BATCH,
    "dae_ssl.batch.archive": ("dae_ssl.batch.cells", *BATCH),
    "dae_ssl.batch.encoders": ("dae_ssl.batch.archive", *BATCH),
    "dae_ssl.batch.profile": GROUND,
    "dae_ssl.batch.queue": (),
    "dae_ssl.batch.tasks": ("dae_ssl.batch.cells", "dae_ssl.batch.profile", *BATCH),
    "dae_ssl.batch.plan": ("dae_ssl.batch.profile", *BATCH),
    "dae_ssl.batch.lane": ("dae_ssl.batch.tasks", "dae_ssl.batch.interrupt"),
    "dae_ssl.batch.lanes": ("dae_ssl.batch.tasks", "dae_ssl.batch.plan", "dae_ssl.batch.profile", *GROUND),
    "dae_ssl.batch.running": (
        "dae_ssl.batch.lanes",
        "dae_ssl.batch.log",
        "dae_ssl.batch.plan",
        "dae_ssl.batch.tasks",
        *GROUND,
    ),
    "dae_ssl.batch.cost": ("dae_ssl.batch.plan", "dae_ssl.batch.trial", "dae_ssl.batch.profile", *BATCH),
    "dae_ssl.batch.trial": BATCH,
    "dae_ssl.batch.snapshot": ("dae_ssl.batch.profile", "dae_ssl.batch.provenance", *GROUND),
    "dae_ssl.batch.script": ("dae_ssl.batch.profile", "dae_ssl.batch.queue", "dae_ssl.batch.snapshot", *GROUND),
    "dae_ssl.batch.launch": LAUNCH,
    "dae_ssl.batch.status": ("dae_ssl.batch.launch", *LAUNCH),
    "dae_ssl.batch.cluster": ("dae_ssl.batch.queue",),
    "dae_ssl.batch.check": ("dae_ssl.batch.launch", "dae_ssl.batch.cluster", *LAUNCH),
    "dae_ssl.experiments": ("dae_ssl.config", "dae_ssl.experiments"),
    "dae_ssl.report": (
        *GROUND,
        TRAINING,
        "dae_ssl.evaluation",
        "dae_ssl.batch",
        "dae_ssl.experiments",
        "dae_ssl.report",
    ),
    "jobs": ("dae_ssl", "jobs"),
    "hydra_plugins": ("dae_ssl", "jobs", "hydra_plugins.hydra_submitit_launcher"),
    "benchmarks": ("dae_ssl", "jobs", "benchmarks"),
}
PACKAGES = ("dae_ssl", "jobs", "benchmarks", "hydra_plugins")
PROJECT = (*PACKAGES, "tests", "slurm")

# Libraries with one user in the product; benchmarks may measure them.
OWNERS: dict[str, tuple[str, ...]] = {
    "h5py": ("dae_ssl.evaluation.features",),
    "mlflow": ("dae_ssl.batch.server", "dae_ssl.batch.track"),
    "submitit": ("dae_ssl.batch.script", "hydra_plugins"),
    "hydra": ("jobs.run_cell", "jobs.settings", "hydra_plugins"),
    "omegaconf": ("jobs.run_cell", "jobs.experiment"),
    "yaml": ("jobs.experiment",),
}


def within(name: str, package: str) -> bool:
    return name == package or name.startswith(f"{package}.")


def module_name(path: Path, root: Path) -> str:
    parts = path.relative_to(root).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def sources(root: Path = ROOT) -> dict[str, str]:
    """Return the source of every module of the project's packages."""
    found = {}
    for package in PACKAGES:
        for path in sorted((root / package).rglob("*.py")):
            found[module_name(path, root)] = path.read_text()
    return found


def imports(module: str, source: str, modules: Mapping[str, str]) -> Iterator[str]:
    """Yield every module that the source imports, wherever in it: as statements or by name at run time."""
    is_package = any(other.startswith(f"{module}.") for other in modules)
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                above = module.split(".")[: len(module.split(".")) - node.level + is_package]
                base = ".".join([*above, *filter(None, [node.module])])
            for alias in node.names:
                full = f"{base}.{alias.name}"
                yield full if full in modules else base
        elif isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Constant):
            called = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            if called in ("import_module", "__import__"):
                yield str(node.args[0].value)


def room(module: str) -> tuple[str, ...] | None:
    """Return what the module may import: its own row, or its package's where that is not just a doorway."""
    name = module
    while name:
        if name in ROOMS and (name == module or ROOMS[name]):
            return ROOMS[name]
        name = name.rpartition(".")[0]
    return None


def climbing(modules: Mapping[str, str]) -> list[str]:
    """Return one line for every import that the walls do not allow."""
    found = []
    for module, source in modules.items():
        allowed = room(module)
        if allowed is None:
            found.append(f"{module} has no room: give it a row in ROOMS")
            continue
        for imported in imports(module, source, modules):
            top = imported.partition(".")[0]
            ours = top in PROJECT and imported != "dae_ssl"
            if ours and not any(within(imported, name) for name in allowed):
                found.append(f"{module} imports {imported}")
            owners = OWNERS.get(top, ()) if not within(module, "benchmarks") else ()
            if owners and not any(within(module, owner) for owner in owners):
                found.append(f"{module} imports {imported}, which is for {', '.join(owners)} only")
            if module == "dae_ssl.config" and top not in sys.stdlib_module_names:
                found.append(f"{module} imports {imported}, which is not in the standard library")
    return found


# ---------------------------------------------------------------------------------- the house as it stands


def test_imports_point_down_only() -> None:
    assert climbing(sources()) == []


def test_walls_have_no_way_round() -> None:
    """Along allowed imports, from anywhere, nobody comes back to where he started."""
    modules = {name: source for name, source in sources().items() if name != "dae_ssl"}
    edges = {name: set(imports(name, source, modules)) & modules.keys() for name, source in modules.items()}
    order: list[str] = []
    while len(order) < len(modules):
        free = [name for name in modules if name not in order and edges[name] <= {*order, name}]
        assert free, f"these import each other in a circle: {sorted(modules.keys() - set(order))}"
        order += free


def test_no_room_is_called_by_what_says_nothing() -> None:
    nothing = {"utils", "util", "helpers", "helper", "manager", "common", "misc"}
    assert [name for name in sources() if nothing & set(name.split("."))] == []


# ---------------------------------------------------------------------------------- the checker itself

PLANTED = [
    ("dae_ssl.store", "from dae_ssl.lock import held", "dae_ssl.lock"),
    ("dae_ssl.store", "from dae_ssl import lock", "dae_ssl.lock"),
    ("dae_ssl.lock", "import dae_ssl.data", "dae_ssl.data"),
    ("dae_ssl.data", "from dae_ssl.training.views import draw", "dae_ssl.training.views"),
    ("dae_ssl.distributed", "def f():\n    from dae_ssl.training import losses", "dae_ssl.training.losses"),
    ("dae_ssl.training.views", "from dae_ssl.training import networks", "dae_ssl.training.networks"),
    ("dae_ssl.training.views", "from . import networks", "dae_ssl.training.networks"),
    ("dae_ssl.training.views", "from .networks import encoder", "dae_ssl.training.networks"),
    ("dae_ssl.training.losses", "from ..batch import stages", "dae_ssl.batch.stages"),
    ("dae_ssl.training.monitor", "import dae_ssl.training.losses as losses", "dae_ssl.training.losses"),
    ("dae_ssl.training.methods.simclr", "from dae_ssl.training.views import draw", "dae_ssl.training.views"),
    ("dae_ssl.training.methods.simclr", "from . import siamese", "dae_ssl.training.methods.siamese"),
    ("dae_ssl.training.pretrain", "from dae_ssl.evaluation.probe import Probe", "dae_ssl.evaluation.probe"),
    ("dae_ssl.evaluation.features", "from dae_ssl.training.pretrain import start", "dae_ssl.training.pretrain"),
    ("dae_ssl.evaluation.probe", "from dae_ssl.evaluation import features", "dae_ssl.evaluation.features"),
    ("dae_ssl.data", "from dae_ssl import prepare", "dae_ssl.prepare"),
    ("dae_ssl.batch.log", "from dae_ssl.batch.track import CellRun", "dae_ssl.batch.track"),
    ("dae_ssl.batch.track", "from dae_ssl.batch.stages import compute", "dae_ssl.batch.stages"),
    ("dae_ssl.batch.stages", "from dae_ssl.batch import cells", "dae_ssl.batch.cells"),
    ("dae_ssl.batch.cells", "import importlib\nimportlib.import_module('dae_ssl.report')", "dae_ssl.report"),
    ("dae_ssl.experiments.alpha", "from dae_ssl.store import Store", "dae_ssl.store"),
    ("dae_ssl.report", "from jobs import settings", "jobs.settings"),
    ("dae_ssl.report", "from tests.test_store import filled", "tests.test_store"),
    ("jobs.run_cell", "import benchmarks.timing", "benchmarks.timing"),
    ("dae_ssl.evaluation.probe", "import h5py", "h5py"),
    ("dae_ssl.batch.stages", "def f():\n    import mlflow.tracking", "mlflow.tracking"),
    ("dae_ssl.batch.plan", "from submitit import AutoExecutor", "submitit"),
    ("dae_ssl.config", "from omegaconf import OmegaConf", "omegaconf"),
    ("jobs.submit", "def f():\n    import hydra", "hydra"),
    ("dae_ssl.config", "import torch", "torch"),
]  # fmt: skip


@pytest.mark.parametrize(("module", "source", "imported"), PLANTED)
def test_planted_import_is_found(module: str, source: str, imported: str) -> None:
    everything = dict.fromkeys([*(m for m, *_ in PLANTED), *(i for *_, i in PLANTED)], "") | {module: source}
    found = climbing(everything)
    assert any(line.startswith(f"{module} imports {imported}") for line in found), found


def test_allowed_imports_are_not_found() -> None:
    good = {
        "dae_ssl.store": "import json",
        "dae_ssl.config": "import json\nfrom collections.abc import Iterator",
        "dae_ssl.training.pretrain": "from dae_ssl.training.methods.base import SelfSupervised\nimport torch",
        "dae_ssl.training.methods.base": "import dae_ssl\nfrom dae_ssl.training.networks import encoder",
        "dae_ssl.training.methods.mine": "from dae_ssl.training.methods.base import SelfSupervised",
        "dae_ssl.batch.track": "def f():\n    import mlflow",
        "dae_ssl.evaluation.features": "import h5py",
        "jobs.submit": "from dae_ssl.batch import launch\nfrom jobs import settings",
        "jobs.run_cell": "import hydra",
    }
    assert climbing(good) == []


def test_module_without_a_room_is_found() -> None:
    assert climbing({"dae_ssl.training.tricks": ""}) == ["dae_ssl.training.tricks has no room: give it a row in ROOMS"]
    assert climbing({"dae_ssl.new": ""}) == ["dae_ssl.new has no room: give it a row in ROOMS"]


# ---------------------------------------------------------------------------------- what importing does


def run(code: str, folder: Path) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-W", "error", "-c", f"import sys; sys.path.insert(0, {str(ROOT)!r})\n{code}"]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=300, check=False)


def test_config_imports_the_standard_library_only(tmp_path: Path) -> None:
    code = "before = set(sys.modules); import dae_ssl.config\n"
    code += "print(*{name.partition('.')[0] for name in set(sys.modules) - before} - sys.stdlib_module_names)"
    done = run(code, tmp_path)
    assert done.stdout.split() == ["dae_ssl"], done.stderr


@pytest.mark.slow
def test_computing_imports_no_tracker_launcher_or_plotter_and_does_nothing_by_being_imported(tmp_path: Path) -> None:
    code = """
import importlib, threading
for blocked in ("mlflow", "hydra", "omegaconf", "submitit", "matplotlib"):
    sys.modules[blocked] = None
import torch
generator, threads = torch.get_rng_state(), threading.active_count()
for name in ("training.pretrain", "training.methods", "evaluation.features", "evaluation.probe", "evaluation.kmeans",
             "batch.stages"):
    importlib.import_module(f"dae_ssl.{name}")
assert torch.equal(generator, torch.get_rng_state())
assert threading.active_count() == threads
assert not torch.cuda.is_initialized()
"""
    done = run(code, tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert list(tmp_path.iterdir()) == []
