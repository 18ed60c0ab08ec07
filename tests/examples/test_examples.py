"""Every example runs as its docstring says, from any folder, and says what was computed."""

import ast
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import dae_ssl
from dae_ssl.store import Store

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples"
SCRIPTS = sorted(path.stem for path in EXAMPLES.glob("*.py"))
ENVIRONMENT = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}


def started(name: str, folder: Path) -> list[str]:
    """Return the lines that a script prints which is started in a folder of somebody's own."""
    command = [sys.executable, "-W", "error", str(EXAMPLES / f"{name}.py")]
    done = subprocess.run(command, cwd=folder, env=ENVIRONMENT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.splitlines()


def records(folder: Path, stage: str) -> list[dict[str, Any]]:
    return [json.loads(path.read_text()) for path in sorted((folder / "store" / stage).glob("*/record.json"))]


def numbers(line: str) -> list[float]:
    return [float(number) for number in re.findall(r"[\d.]+(?= %)", line)]


@pytest.mark.parametrize("name", SCRIPTS)
def test_script_says_what_it_shows_and_how_it_is_run_and_stays_short(name: str) -> None:
    text = (EXAMPLES / f"{name}.py").read_text()
    docstring = ast.get_docstring(ast.parse(text)) or ""
    assert f"\n    python {name}.py [STORE" in docstring
    assert text.count("\n") <= 80
    assert f"[`{name}.py`]({name}.py)" in (EXAMPLES / "README.md").read_text()


@pytest.mark.slow
def test_loss_of_ones_own_is_what_the_cell_was_trained_with(tmp_path: Path) -> None:
    *_, last = started("own_loss", tmp_path)
    (pretrain,), (probe,) = records(tmp_path, "pretrain"), records(tmp_path, "probe")
    assert pretrain["settings"]["method"] == {"name": "dae", "embedding": "huber", "alpha": 1.0, "reconstruction": "l2"}
    assert numbers(last) == [round(100 * probe["figures"]["logistic_test_accuracy"], 1)]
    (log,) = (tmp_path / "store" / "pretrain").glob("*/log.jsonl")
    assert '"embedding":' in log.read_text(), "the term was computed"
    again = started("own_loss", tmp_path)
    assert again[-1] == last
    assert not [line for line in again if " took " in line], "the second time nothing is computed"


@pytest.mark.slow
def test_method_of_ones_own_is_trained_and_measured(tmp_path: Path) -> None:
    *_, last = started("own_method", tmp_path)
    (pretrain,), (probe,) = records(tmp_path, "pretrain"), records(tmp_path, "probe")
    assert pretrain["settings"]["method"] == {"name": "rotations", "smoothing": 0.1}
    assert numbers(last) == [round(100 * probe["figures"]["logistic_test_accuracy"], 1)]
    (log,) = (tmp_path / "store" / "pretrain").glob("*/log.jsonl")
    assert '"turns_predicted":' in log.read_text()
    with pytest.raises(dae_ssl.config.ConfigError, match="method='rotations'"):
        dae_ssl.cell(method="rotations")  # nobody else knows it


@pytest.mark.slow
def test_images_of_ones_own_are_prepared_and_a_cell_is_computed_beside_its_floors(tmp_path: Path) -> None:
    *_, last = started("own_images", tmp_path)
    record = Store(tmp_path / "store").data("mine").record()
    assert record is not None
    assert record["classes"] == ["cross", "disk", "square"]
    assert {name: split["images"] for name, split in record["splits"].items()} == {"train": 120, "test": 120}
    measured = {round(100 * probe["figures"]["logistic_test_accuracy"], 1) for probe in records(tmp_path, "probe")}
    assert re.fullmatch(r"dae [\d.]+ %, random encoder [\d.]+ %, raw pixels [\d.]+ %", last)
    assert set(numbers(last)) == measured


@pytest.mark.slow
def test_encoder_that_the_package_knows_nothing_of_is_measured_in_a_loop_of_ones_own(tmp_path: Path) -> None:
    *lines, last = started("own_loop", tmp_path)
    validation = [numbers(line)[0] for line in lines if line.startswith("epoch")]
    assert len(validation) == 4
    assert validation[-1] > validation[0] > 50
    logistic, clusters = numbers(last)
    assert (logistic > 90, clusters > 40) == (True, True)
    assert [path.name for path in (tmp_path / "store").iterdir()] == ["data"], "no cell is computed"


@pytest.mark.slow
def test_notebook_runs_and_its_outputs_are_those_that_are_kept_with_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import nbformat
    from nbclient import NotebookClient

    for name in ("PYTHONPATH", "OMP_NUM_THREADS", "CUDA_VISIBLE_DEVICES"):
        monkeypatch.setenv(name, ENVIRONMENT[name])
    kept = nbformat.read(EXAMPLES / "notebook.ipynb", 4)
    where = {"metadata": {"path": str(tmp_path)}}
    ran = NotebookClient(nbformat.from_dict(kept), resources=where, coalesce_streams=True).execute()
    printed = "".join(out.get("text", "") for cell in ran.cells for out in cell.get("outputs", []))
    own, cells = numbers(next(line for line in printed.splitlines() if "of 500 test digits" in line))
    (probe,) = records(tmp_path, "probe")
    assert cells == round(100 * probe["figures"]["logistic_test_accuracy"], 1)
    assert abs(own - cells) <= 0.4, "two images, by the rounding of stored features"
    (shared,) = numbers(next(line for line in printed.splitlines() if "nearest training digits" in line))
    assert shared > 70
    assert shapes(ran) == shapes(kept), "what is kept was made by these cells"


def shapes(notebook: Any) -> list[list[tuple[str, ...]]]:
    """Return of each cell the kinds of its outputs, as [("text/plain", "image/png")]; numbers differ by machine."""
    return [[(out.output_type, *sorted(out.get("data", {}))) for out in cell.get("outputs", [])]
            for cell in notebook.cells]  # fmt: skip
