"""Trials: what a short timed run measures, and where plans find it."""

import shutil
from pathlib import Path

import pytest

from dae_ssl.planning import trial
from dae_ssl.store import Store
from jobs import profiles
from tests.commanded import run
from tests.planning.planned import column


def test_trial_for_packed_cells_times_one_rank_in_each_precision_and_the_plan_goes_by_it(
    images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(images, tmp_path / "store")
    path = tmp_path / "packed.yaml"
    path.write_text((profiles.PROFILES / "gpu4-packed.yaml").read_text() + "device: cpu\n")
    changes = ["data.pretrain=tiny", "data.evaluate=tiny", "data.validation_images=6", "optimisation.batch_size=32"]
    run("plan", ["precision", f"--profile={path}", f"--store={tmp_path / 'store'}", "--trial", *changes])
    found = {(one["method"], one["precision"], one["ranks"]) for one in trial.measured(Store(tmp_path / "store"))}
    assert found == {(method, precision, 1) for method in ("dae", "simclr") for precision in ("fp32", "tf32", "bf16")}
    lines = capsys.readouterr().out.splitlines()
    assert "unknown" not in column(lines, "4 cells side by side")
    assert column(lines, "4 ranks a cell") == ["unknown"] * 3
