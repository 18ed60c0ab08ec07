"""The rooms of the house: imports point down only, a heavy library has one user, and importing does nothing.

The walls are the table ROOMS, a row for each package: what its modules may import of other packages. Inside a package
they may import each other; a chain of imports that comes back to where it began is found wherever it runs.
"""

import ast
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

GROUND = ("config", "files", "store", "lock", "distributed", "replay")
"""Modules of dae_ssl itself, which stand below every package."""
BELOW_COMPUTE = ("data", "training", "evaluation")
BELOW_JOBS = (*BELOW_COMPUTE, "compute", "tracking", "planning", "cluster", "experiments", "report")
ROOMS: dict[str, tuple[str, ...]] = {
    "dae_ssl": (),
    "dae_ssl.data": (),
    "dae_ssl.training": ("data",),
    "dae_ssl.evaluation": ("data", "training.networks", "training.checkpoint"),
    "dae_ssl.compute": BELOW_COMPUTE,
    "dae_ssl.tracking": (*BELOW_COMPUTE, "compute"),
    "dae_ssl.planning": (*BELOW_COMPUTE, "compute"),
    "dae_ssl.cluster": (*BELOW_COMPUTE, "compute", "tracking", "planning"),
    "dae_ssl.experiments": (),
    "dae_ssl.report": (*BELOW_COMPUTE, "compute", "experiments"),
    "jobs": BELOW_JOBS,
    "hydra_plugins": (*BELOW_JOBS, "jobs", "hydra_plugins.hydra_submitit_launcher"),
    "benchmarks": (*BELOW_JOBS, "jobs"),
    "docs": (*BELOW_JOBS, "jobs"),
}
CLOSER: dict[str, tuple[str, ...]] = {
    "dae_ssl.config": (),
    "dae_ssl.files": (),
    "dae_ssl.store": ("files",),
    "dae_ssl.lock": ("files",),
    "dae_ssl.distributed": ("config",),
    "dae_ssl.replay": (),
    "dae_ssl.experiments": ("config", "experiments"),
    "dae_ssl.training.methods": (*GROUND, "training.networks", "training.losses", "training.methods.base"),
    "dae_ssl.training.networks": GROUND,
    "dae_ssl.training.losses": GROUND,
    "dae_ssl.training.views": (*GROUND, "training.render_triton"),
    "dae_ssl.evaluation": (*GROUND, "data", "training.networks", "training.checkpoint"),
}
"""What is held to less than its package: of dae_ssl, and of its own package, it may import this and nothing else."""
PACKAGES = ("dae_ssl", "jobs", "benchmarks", "hydra_plugins", "docs")
PROJECT = (*PACKAGES, "tests", "slurm")

# Libraries with one user in the product; benchmarks may measure them.
OWNERS: dict[str, tuple[str, ...]] = {
    "h5py": ("dae_ssl.evaluation.features",),
    "mlflow": ("dae_ssl.tracking",),
    "submitit": ("dae_ssl.cluster.script", "hydra_plugins"),
    "hydra": ("jobs.run", "jobs.settings", "hydra_plugins"),
    "omegaconf": ("jobs.run", "jobs.profiles"),
    "yaml": ("jobs.profiles",),
    "argcomplete": ("jobs.__main__",),
}


MAP_LINE = re.compile(r"^(?: {4})?(\w+)(?:\.py|/)? {2,}\S", re.MULTILINE)
"""A line of a package's map: the module's name, at least two spaces, and what it holds."""


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


def package(module: str) -> str | None:
    """Return the row of ROOMS that a module stands in."""
    return next((name for name in sorted(ROOMS, key=len, reverse=True) if within(module, name)), None)


def allowed(module: str) -> tuple[str, ...] | None:
    """Return what a module may import, packages standing for all in them; None for one that has no room."""
    name = package(module)
    closer = next((row for row in sorted(CLOSER, key=len, reverse=True) if within(module, row)), None)
    if name is None or (name == "dae_ssl" and closer is None and module != "dae_ssl"):
        return None
    within_house = CLOSER[closer] if closer else (*GROUND, *ROOMS[name], name)
    forms = (form for part in within_house for form in (part, f"dae_ssl.{part}"))
    own_package = () if closer else (name,)
    return (*forms, *own_package)


def climbing(modules: Mapping[str, str]) -> list[str]:
    """Return one line for every import that the walls do not allow."""
    found = []
    for module, source in modules.items():
        permitted = allowed(module)
        if permitted is None:
            found.append(f"{module} has no room: give it a row in ROOMS, or in CLOSER")
            continue
        for imported in imports(module, source, modules):
            top = imported.partition(".")[0]
            ours = top in PROJECT and imported != "dae_ssl"
            if ours and not any(within(imported, name) for name in permitted):
                found.append(f"{module} imports {imported}")
            owners = OWNERS.get(top, ()) if not within(module, "benchmarks") else ()
            if owners and not any(within(module, owner) for owner in owners):
                found.append(f"{module} imports {imported}, which is for {', '.join(owners)} only")
            if module == "dae_ssl.config" and top not in sys.stdlib_module_names:
                found.append(f"{module} imports {imported}, which is not in the standard library")
    return found


def off_the_map(package: str, modules: Mapping[str, str]) -> list[str]:
    """Return one line for each module of a package that its map lacks or names in vain, or names twice.

    The map is the docstring of its `__init__`; a table VERBS in its `__main__` is part of it.
    """
    direct = (name.removeprefix(f"{package}.") for name in modules if name.startswith(f"{package}."))
    there = {name for name in direct if "." not in name and not name.startswith("__")}
    docstring = ast.get_docstring(ast.parse(modules[package])) or ""
    named = [*MAP_LINE.findall(docstring), *verbs(modules.get(f"{package}.__main__", ""))]
    first = docstring.partition("\n")[0]
    found = [] if re.search(r"\w.*[.:]$", first) else [f"{package} does not say what it is in its first line"]
    found += [f"{package} has no line for {name}" for name in sorted(there - set(named))]
    found += [f"{package} has a line for {name}, which is not there" for name in sorted(set(named) - there)]
    return found + [f"{package} has several lines for {name}" for name in sorted(there) if named.count(name) > 1]


def verbs(source: str) -> list[str]:
    """Return the keys of a module's table VERBS, if it has one."""
    for node in ast.parse(source).body:
        targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
        table = getattr(node, "value", None)
        if isinstance(table, ast.Dict) and any(isinstance(t, ast.Name) and t.id == "VERBS" for t in targets):
            return [str(key.value) for key in table.keys if isinstance(key, ast.Constant)]
    return []


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


HOUSE = sources()


@pytest.mark.parametrize("package", [name for name in HOUSE if any(other.startswith(f"{name}.") for other in HOUSE)])
def test_a_package_has_a_map_of_its_modules(package: str) -> None:
    assert off_the_map(package, HOUSE) == []


def test_no_room_is_called_by_what_says_nothing() -> None:
    nothing = {"utils", "util", "helpers", "helper", "manager", "common", "misc"}
    assert [name for name in sources() if nothing & set(name.split("."))] == []


# ---------------------------------------------------------------------------------- the checker itself

PLANTED = [
    ("dae_ssl.store", "from dae_ssl.lock import held", "dae_ssl.lock"),
    ("dae_ssl.store", "from dae_ssl import lock", "dae_ssl.lock"),
    ("dae_ssl.lock", "import dae_ssl.data.sets", "dae_ssl.data.sets"),
    ("dae_ssl.data.sets", "from dae_ssl.training.views import draw", "dae_ssl.training.views"),
    ("dae_ssl.distributed", "def f():\n    from dae_ssl.training import losses", "dae_ssl.training.losses"),
    ("dae_ssl.training.views", "from dae_ssl.training import networks", "dae_ssl.training.networks"),
    ("dae_ssl.training.views", "from . import networks", "dae_ssl.training.networks"),
    ("dae_ssl.training.views", "from .networks import encoder", "dae_ssl.training.networks"),
    ("dae_ssl.training.losses", "from ..compute import stages", "dae_ssl.compute.stages"),
    ("dae_ssl.training.monitor", "import dae_ssl.evaluation.probe as probe", "dae_ssl.evaluation.probe"),
    ("dae_ssl.training.methods.simclr", "from dae_ssl.training.views import draw", "dae_ssl.training.views"),
    ("dae_ssl.training.methods.simclr", "from . import siamese", "dae_ssl.training.methods.siamese"),
    ("dae_ssl.training.pretrain", "from dae_ssl.evaluation.probe import Probe", "dae_ssl.evaluation.probe"),
    ("dae_ssl.evaluation.features", "from dae_ssl.training.pretrain import start", "dae_ssl.training.pretrain"),
    ("dae_ssl.evaluation.probe", "from dae_ssl.evaluation import features", "dae_ssl.evaluation.features"),
    ("dae_ssl.data.sets", "from dae_ssl.compute import cells", "dae_ssl.compute.cells"),
    ("dae_ssl.compute.log", "from dae_ssl.tracking.copying import CellRun", "dae_ssl.tracking.copying"),
    ("dae_ssl.tracking.copying", "from dae_ssl.planning.plan import make", "dae_ssl.planning.plan"),
    ("dae_ssl.planning.plan", "from dae_ssl.cluster import queue", "dae_ssl.cluster.queue"),
    ("dae_ssl.compute.running", "from dae_ssl.planning import plan", "dae_ssl.planning.plan"),
    ("dae_ssl.compute.cells", "import importlib\nimportlib.import_module('dae_ssl.report')", "dae_ssl.report"),
    ("dae_ssl.experiments.alpha", "from dae_ssl.store import Store", "dae_ssl.store"),
    ("dae_ssl.report", "from jobs import settings", "jobs.settings"),
    ("dae_ssl.report", "from tests.test_store import filled", "tests.test_store"),
    ("jobs.run", "import benchmarks.timing", "benchmarks.timing"),
    ("dae_ssl.evaluation.probe", "import h5py", "h5py"),
    ("dae_ssl.compute.stages", "def f():\n    import mlflow.tracking", "mlflow.tracking"),
    ("dae_ssl.planning.plan", "from submitit import AutoExecutor", "submitit"),
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
        "dae_ssl.tracking.copying": "def f():\n    import mlflow",
        "dae_ssl.evaluation.features": "import h5py",
        "jobs.submit": "from dae_ssl.cluster import launch\nfrom jobs import settings",
        "jobs.run": "import hydra",
    }
    assert climbing(good) == []


def test_module_without_a_room_is_found() -> None:
    assert climbing({"dae_ssl.new": ""}) == ["dae_ssl.new has no room: give it a row in ROOMS, or in CLOSER"]


ROOM = '"""A room.\n\n    shelf   what lies on it\n    hook    what hangs there\n\nBooks are no modules.\n"""'


@pytest.mark.parametrize(
    ("modules", "told"),
    [
        ({"room": ROOM, "room.shelf": "", "room.hook": "", "room.hook.small": ""}, []),
        ({"room": ROOM, "room.shelf": "", "room.hook": "", "room.__main__": ""}, []),
        ({"room": ROOM, "room.shelf": ""}, ["room has a line for hook, which is not there"]),
        ({"room": ROOM, "room.shelf": "", "room.hook": "", "room.lamp": ""}, ["room has no line for lamp"]),
        ({"room": ROOM, "room.shelf": "", "room.hook": "", "room.lamp": "",
          "room.__main__": "VERBS: dict[str, str] = {'lamp': 'Give light.'}"}, []),
        ({"room": ROOM.replace("hook ", "shelf"), "room.shelf": ""}, ["room has several lines for shelf"]),
        ({"room": '"""."""', "room.shelf": ""},
         ["room does not say what it is in its first line", "room has no line for shelf"]),
    ],
)  # fmt: skip
def test_what_is_off_the_map_is_found(modules: dict[str, str], told: list[str]) -> None:
    assert off_the_map("room", modules) == told


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
             "compute.life"):
    importlib.import_module(f"dae_ssl.{name}")
assert torch.equal(generator, torch.get_rng_state())
assert threading.active_count() == threads
assert not torch.cuda.is_initialized()
"""
    done = run(code, tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert list(tmp_path.iterdir()) == []
