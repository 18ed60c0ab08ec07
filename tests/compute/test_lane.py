"""A lane seen from inside: what it is given, what it answers, and how it ends."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import dae_ssl.training.methods  # noqa: F401  (registers every method)
from dae_ssl import config
from dae_ssl.compute import lane
from dae_ssl.compute.processes import BAD_INPUT, DONE, FAILED, Conditions
from dae_ssl.compute.resources import Resources
from tests.compute.played import cell
from tests.patience import PATIENCE, ended, until

ROOT = Path(__file__).parents[2]
LANE = """
import os, sys, time
from dae_ssl.compute import lane, processes
def run(task, conditions, ranks, output, memo):
    (node,) = task.nodes
    print("a library prints")
    output.tell(f"{node.stage} of seed {node.cell.seed} on {conditions.device}")
    for step in range(1000): output.progress("steps", step + 1, 1000)
    sys.stderr.write(f"busy {' '.join(ranks[:3])}\\n")
    sys.stderr.flush()
    time.sleep(float(os.environ.get("TAKES", "0")))
    return int(node.cell.seed)
processes.run = run
sys.exit(lane.main(sys.argv[1:], ("this",)))
"""


def given(stage: str, seed: int) -> bytes:
    return json.dumps({"stage": stage, "settings": config.settings(cell(seed))}).encode() + b"\n"


def started(store: Path, *options: str, **variables: str) -> "subprocess.Popen[bytes]":
    conditions = json.dumps(Conditions(store=store, resources=Resources()).plain())
    command, pipe = [sys.executable, "-c", LANE, conditions, "--device=cpu", *options], subprocess.PIPE
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"} | variables
    return subprocess.Popen(command, env=environment, stdin=pipe, stdout=pipe, stderr=pipe)


@pytest.fixture
def busy(tmp_path: Path) -> Iterator["subprocess.Popen[bytes]"]:
    """A lane that is at work on a node of seed 0 for three seconds."""
    process = started(tmp_path, TAKES="3")
    assert process.stdin is not None
    assert process.stderr is not None
    process.stdin.write(given("kmeans", 0))
    process.stdin.flush()
    while b"busy" not in process.stderr.readline():
        pass
    yield process
    process.kill()
    process.communicate()


def test_lane_answers_for_one_node_after_another_and_ends_with_its_input(tmp_path: Path) -> None:
    process = started(tmp_path)
    printed, complained = process.communicate(given("features", DONE) + given("probe", FAILED), timeout=PATIENCE)
    answers = [json.loads(line) for line in printed.splitlines()]
    told = [answer for answer in answers if answer[0] != "progress"]
    assert told == [["tell", "features of seed 0 on cpu"], ["ended", DONE],
                    ["tell", "probe of seed 1 on cpu"], ["ended", FAILED]]  # fmt: skip
    steps = [answer[2] for answer in answers if answer[0] == "progress"]
    assert steps[-1] == 1000
    assert len(steps) < 100, "not every one of two times thousand"
    assert complained.decode().count("a library prints") == 2
    assert "busy this {" in complained.decode(), "the command of ranks is the lane's own, with its conditions"
    assert process.returncode == 0


def test_settings_that_no_method_knows_are_bad_input_and_the_lane_goes_on(tmp_path: Path) -> None:
    unknown = json.dumps({"stage": "probe", "settings": config.settings(cell(0)) | {"method": {"name": "mine"}}})
    printed, complained = started(tmp_path).communicate(unknown.encode() + b"\n" + given("probe", 0), timeout=PATIENCE)
    answers = [json.loads(line) for line in printed.splitlines() if b"ended" in line]
    assert answers == [["ended", BAD_INPUT], ["ended", DONE]]
    assert "error: method.name='mine': choose" in complained.decode() or "error: method='mine'" in complained.decode()


def test_script_that_computes_while_it_is_imported_is_one_line_for_each_node_and_no_crash(tmp_path: Path) -> None:
    script = tmp_path / "unguarded.py"
    script.write_text("import dae_ssl\ndae_ssl.run([dae_ssl.cell(method='ae')], 'nowhere')\n")
    process = started(tmp_path, f"--import={script}")
    printed, complained = process.communicate(given("probe", 0) + given("probe", 1), timeout=PATIENCE)
    assert [json.loads(line) for line in printed.splitlines()] == [["ended", BAD_INPUT]] * 2
    lines = complained.decode().splitlines()
    assert len(lines) == 2
    assert all(line.startswith(f"error: {script} computes cells while it is imported") for line in lines)
    assert process.returncode == 0


def test_lane_that_is_asked_to_stop_begins_nothing_more(busy: Any) -> None:
    busy.send_signal(signal.SIGTERM)
    printed, _ = busy.communicate(given("probe", 0), timeout=PATIENCE)
    assert [json.loads(line)[1] for line in printed.splitlines() if b"ended" in line] == [DONE, 128 + signal.SIGTERM]


PARENT = """
import subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c", *sys.argv[1:3], "--device=cpu"], stdin=-1, stdout=-1, stderr=-1)
child.stdin.write(sys.argv[3].encode() + b"\\n")
child.stdin.flush()
while b"busy" not in child.stderr.readline(): pass
print(child.pid, flush=True)
time.sleep(3600)
"""


def test_lane_dies_with_the_process_that_started_it_also_while_it_is_busy(tmp_path: Path) -> None:
    conditions = json.dumps(Conditions(store=tmp_path, resources=Resources()).plain())
    command = [sys.executable, "-c", PARENT, LANE, conditions, given("kmeans", 0).decode().strip()]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "TAKES": "3600"}
    parent = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    child = Path(f"/proc/{int(parent.stdout.readline())}")
    assert child.exists()
    parent.kill()
    parent.communicate()
    until(lambda: ended(child), lambda: "it computes on")


def test_lane_keeps_to_its_share_of_the_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    taken = list[float]()
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "set_per_process_memory_fraction", taken.append)
    lane.keep_to(0.475)
    lane.keep_to(1.0)
    assert taken == [0.475]
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    lane.keep_to(0.5)
    assert taken == [0.475], "there is none"


def test_conditions_come_back_from_the_command_line() -> None:
    resources = Resources(ranks_per_machine=4, gpus_per_machine=4, sbatch=("constraint=a100",))
    conditions = Conditions(store=Path("/s"), resources=resources, save_seconds=3.5, mlflow_experiment="é")
    named = lane.parser().parse_args([json.dumps(conditions.plain()), "--device=cpu", "--gpu-share=0.5"])
    assert Conditions.of(named.conditions) == conditions
    assert (named.device, named.gpu_share) == ("cpu", 0.5)
    assert replace(conditions, device="cpu") != conditions
