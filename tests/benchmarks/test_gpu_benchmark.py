"""`python -m benchmarks.gpu` runs on a CPU and a bare machine, so that no minute of a GPU goes to a bug in it."""

import argparse
import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from benchmarks import bench, counted, gpu, training
from dae_ssl import config
from dae_ssl.distributed import World

ROOT = Path(__file__).parents[2]
# What a bare machine lacks.
HIDDEN = ("kornia", "mlflow", "hydra", "omegaconf", "submitit", "matplotlib", "tqdm")
BARE = f"""
import runpy, sys
for name in {HIDDEN}:
    sys.modules[name] = None
runpy.run_module("benchmarks.gpu", run_name="__main__", alter_sys=True)
"""
TINY = ("--device", "cpu", "--batch", "16", "--steps", "2", "--epochs", "2", "--probe-epochs", "2", "--seconds", "600")


@pytest.mark.slow
def test_every_part_runs_on_a_bare_machine(tmp_path):
    file = tmp_path / "gpu-name.jsonl"
    command = [sys.executable, "-c", BARE, *TINY, "--to", str(file)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=800, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "failed" not in done.stdout
    assert "kornia is not installed" in done.stdout
    found = {line["part"]: line for line in map(json.loads, file.read_text().splitlines())}
    kinds = [f"step, {method} {precision}" for method in ("dae", "simclr") for precision in ("bf16", "tf32", "fp32")]
    assert {"ceilings", *kinds, "probe", "logistic regression"} <= found.keys()
    ratios = {part: line["ratio"]["median"] for part, line in found.items() if " over " in part}
    assert {part.partition(",")[0] for part in ratios} == {"views", "features", "training"}
    assert min(ratios.values()) > 0
    for kind in kinds:
        assert 0 < found[kind]["share_of_products"] < 3
        assert 0 < found[kind]["share_of_copy"] < 3
        assert found[kind]["seconds_to_first_step"] > 0
    assert found["ceilings"]["copy_gb_per_second"] > 0
    assert {"torch", "triton"} <= found["ceilings"]["machine"]["versions"].keys()
    assert "conv" in (tmp_path / "gpu-name-kernels-dae-bf16.txt").read_text()


# ---------------------------------------------------------------------------------- what is left out


@pytest.fixture
def tiny(tmp_path):
    options = gpu.given([*TINY, "--to", str(tmp_path / "gpu.jsonl")])
    return bench.Bench(World(0, 1, torch.device("cpu")), options, options.to)


def test_a_part_that_fails_prints_one_line_and_the_others_go_on(tiny, capsys):
    def breaks(_bench):
        raise RuntimeError("no such kernel\nand more")

    failed = gpu.run(tiny, {"first": breaks, "second": lambda bench: bench.add("second", seconds=1.5)}, 60)
    assert failed == ["first"]
    assert capsys.readouterr().out.splitlines() == [
        "first: failed, RuntimeError: no such kernel",
        "second: seconds 1.5",
    ]
    assert [json.loads(line)["part"] for line in tiny.file.read_text().splitlines()] == ["second"]


def test_no_part_begins_after_the_time_is_up(tiny, capsys):
    assert gpu.run(tiny, gpu.parts(tiny.options), 0) == []
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == len(gpu.parts(tiny.options))
    assert all("left out, the 0 seconds are over" in line for line in lines)


def test_what_tells_most_comes_first(tiny):
    names = list(gpu.parts(tiny.options))
    assert names[:3] == ["ceilings", "step-dae-bf16", "views"]
    assert names[-5:] == ["step-simclr-bf16", "step-dae-tf32", "step-dae-fp32", "step-simclr-tf32", "step-simclr-fp32"]


@pytest.mark.parametrize("wrong", [["--steps", "1"], ["--epochs", "1"], ["--only", "nothing"], ["--methods", "none"]])
def test_options_that_cannot_be_are_refused(wrong):
    with pytest.raises(SystemExit) as refused:
        gpu.given(wrong)
    assert refused.value.code == 2


# ---------------------------------------------------------------------------------- what is counted and timed


def dae(batch, precision):
    return config.cell(method=training.METHODS["dae"], precision=precision, optimisation={"batch_size": batch})


def test_a_step_of_the_dae_is_600_million_operations_an_image():
    flop, _ = counted.step(dae(64, "fp32"))
    assert flop / 64 == pytest.approx(600e6, rel=0.01)


def test_bytes_of_a_step_are_those_of_its_layers():
    # Numbers of activations, by hand from Table 3: each layer with weights has one input and one output.
    conv = [(3 * 1024, 32 * 1024), (32 * 1024, 32 * 1024), (32 * 256, 64 * 256), (64 * 256, 64 * 256), (4096, 512 * 64)]
    decoder = [(64, 8192), (8192, 32 * 64), (32 * 64, 32 * 256), (32 * 256, 3 * 1024)]
    layers = [*conv, (8192, 64), *decoder]
    passes = [2] + [3] * (len(layers) - 1)  # forward and twice backward; nothing needs the images' gradient
    moved = sum(n * (given + made) for n, (given, made) in zip(passes, layers, strict=True))
    networks = dae(8, "bf16").method.networks(config.Networks(), 0)
    weights = sum(parameter.numel() for parameter in networks.parameters())
    _, narrow = counted.step(dae(8, "bf16"))
    assert narrow == 2 * 16 * moved + 28 * weights + 8 * 3 * 3072 * 5
    assert counted.step(dae(8, "fp32"))[1] - narrow == 2 * 16 * moved


def test_shares_are_of_the_ceiling_and_none_without_one(tiny):
    tiny.ceilings["copy"] = 100.0
    assert tiny.share("copy", 25.0) == 0.25
    assert tiny.share("bf16", 25.0) is None


def test_the_first_epoch_and_the_profiled_one_are_not_timed(tiny, monkeypatch):
    clock = iter(range(1000))
    monkeypatch.setattr(training.time, "perf_counter", lambda: float(next(clock)))
    watch = training.Stopwatch(tiny, profiled_epoch=3)
    monkeypatch.setattr(watch, "_profile", lambda *_: setattr(watch, "profile", "made"))
    for epoch in range(4):
        for step in range(1, 6):
            watch.progress(epoch, step, 5)
        watch.log(epoch + 1, {"epoch_seconds": float(epoch)})
    assert len(watch.seconds) == len(watch.host_seconds) == 2
    # The clock ticks when it is read: after the first step, when the last was handed over, and when it was done.
    assert watch.host_seconds == [1 / 4] * 2
    assert watch.seconds == [2 / 4] * 2
    assert watch.epoch_seconds == [1.0, 2.0]


def test_a_profiler_that_fails_loses_no_times(tiny, monkeypatch, capsys):
    watch = training.Stopwatch(tiny, profiled_epoch=2)

    def profile(*_arguments):
        raise RuntimeError("CUPTI is busy")

    monkeypatch.setattr(watch, "_profile", profile)
    for epoch in range(3):
        for step in (1, 2):
            watch.progress(epoch, step, 2)
    assert len(watch.seconds) == 1
    assert watch.told == {"not_profiled": "RuntimeError: CUPTI is busy"}
    assert capsys.readouterr().out.count("CUPTI") == 1


def test_rates_are_cost_over_seconds(tiny, monkeypatch):
    calls, clock = [], iter(range(1000))
    monkeypatch.setattr(bench.time, "perf_counter", lambda: float(next(clock)))
    assert tiny.rates(lambda: calls.append(1), 6.0, repeat=5, rounds=2) == [30.0, 30.0]
    assert len(calls) == 11


def test_options_hold_what_the_study_trains_by_default():
    options = gpu.given([])
    assert isinstance(options, argparse.Namespace)
    assert (options.batch, options.steps, options.seconds) == (512, 97, 120)
