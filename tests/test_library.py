"""What people import: `dae_ssl` itself, which imports nothing until it is asked for something."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import dae_ssl
from dae_ssl import config

ROOT = Path(__file__).parents[1]


def python(code: str, folder: Path, **variables: str) -> str:
    """Return what a program prints that somebody has written into a folder of his own, where warnings are errors."""
    (folder / "program.py").write_text(code)
    command = [sys.executable, "-W", "error", "program.py"]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"} | variables
    done = subprocess.run(command, env=environment, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_importing_it_imports_the_standard_library_only(tmp_path: Path) -> None:
    code = """
import sys
import importlib, typing
before = set(sys.modules)
import dae_ssl
print(*sorted(set(sys.modules) - before))
dae_ssl.Store
print(*sorted({"torch", "numpy"} & set(sys.modules)), end="")
"""
    assert python(code, tmp_path) == "dae_ssl\n"


def test_names_are_what_stands_in_the_rooms() -> None:
    from dae_ssl.compute import cells, running, trained
    from dae_ssl.store import Store

    assert (dae_ssl.cell, dae_ssl.Store, dae_ssl.run) == (config.cell, Store, running.run)
    assert (dae_ssl.scores, dae_ssl.load_encoder) == (cells.scores, trained.load_encoder)
    assert dae_ssl.__version__.count(".") == 2
    assert set(dae_ssl.__all__) <= set(dir(dae_ssl))
    with pytest.raises(AttributeError, match="module 'dae_ssl' has no attribute 'cel'"):
        dae_ssl.cel  # noqa: B018


def test_cell_knows_every_method_without_another_import(tmp_path: Path) -> None:
    assert python('import dae_ssl; print(dae_ssl.cell(method={"name": "simclr"}).method.name)', tmp_path) == "simclr\n"


METHOD = """
from dataclasses import dataclass
from dae_ssl.training.methods.siamese import Autoencoder

@dataclass(frozen=True, kw_only=True)
class Mine(Autoencoder, name="mine"):
    pass
"""
PROGRAM = """
import json, sys
import dae_ssl
import mine
import numpy

data = {"pretrain": "tiny", "evaluate": "tiny", "validation_images": 6}
few = {"optimisation": {"batch_size": 8, "epochs": 1, "checkpoints": []}, "probe": {"epochs": 2}}
few |= {"kmeans": {"clusters": 3, "restarts": 1}}
cells = [dae_ssl.cell(method=name, data=data, **few) for name in ("ae", "mine")]
outcome = dae_ssl.run(cells, "store", parallel=2, device="cpu")
encoder = dae_ssl.load_encoder("store", method="mine", data=data, **few)
assert encoder(numpy.zeros((2, 3, 32, 32), dtype=numpy.uint8)).shape == (2, 8192)
print(json.dumps([outcome.code, *(dae_ssl.scores(cell, "store") for cell in cells)]))
"""


@pytest.mark.slow
def test_program_of_a_few_lines_computes_cells_side_by_side_also_of_a_method_of_its_own(
    images: Path, tmp_path: Path
) -> None:
    shutil.copytree(images, tmp_path / "store")
    (tmp_path / "mine.py").write_text(METHOD)
    *said, last = python(PROGRAM, tmp_path).splitlines()
    code, first, second = json.loads(last)
    assert code == 0
    assert sum(" took " in line for line in said) == 8
    assert "test_accuracy" in first
    assert first == second, "the method is another's under a name of its own"
