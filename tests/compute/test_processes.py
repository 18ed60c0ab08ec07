"""What a task does with the processes it starts, without a cluster: GPUs, threads, signals, exit codes."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from dae_ssl.compute import processes
from dae_ssl.compute.nodes import Node, Task
from dae_ssl.compute.processes import DONE, FAILED, TRY_AGAIN, Conditions
from dae_ssl.compute.resources import Resources
from tests.forged import a_cell
from tests.patience import PATIENCE, ended, until

AFTER_TASK = Path(__file__).parents[2] / "slurm" / "after_task.sh"


def packed(tmp_path: Path, cells: int, program: str) -> tuple[Task, Conditions, list[str]]:
    """Return a task of packed cells, and what it starts for each: a program that sees its number as its argument."""
    resources = Resources(packing=cells, gpus_per_machine=cells, cpus_per_machine=2 * cells)
    nodes = tuple(Node("pretrain", f"{number}", None, a_cell()) for number in range(cells))
    (tmp_path / "program.py").write_text(f"import os, signal, sys, time\nnumber = int(sys.argv[1][-1])\n{program}\n")
    command = [sys.executable, str(tmp_path / "program.py")]
    return Task(0, nodes), Conditions(store=tmp_path, resources=resources), command


def test_packed_cells_have_a_gpu_and_a_share_of_the_threads_each(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,5,7")
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    says = "open(f'{sys.path[0]}/{number}', 'w').write(' '.join(map(os.environ.get, sys.argv[2:])))"
    task, conditions, command = packed(
        tmp_path, 3, says.replace("sys.argv[2:]", "('CUDA_VISIBLE_DEVICES', 'OMP_NUM_THREADS')")
    )
    assert processes.run(task, conditions, command) == DONE
    assert [(tmp_path / str(number)).read_text() for number in range(3)] == ["4 2", "5 2", "7 2"]


@pytest.mark.parametrize(
    ("program", "code"),
    [("sys.exit(number == 1)", FAILED), ("os.kill(os.getpid(), 9) if number == 1 else sys.exit(1)", TRY_AGAIN)],
)
def test_task_of_packed_cells_ends_as_its_cells_do(program: str, code: int, tmp_path: Path) -> None:
    task, conditions, command = packed(tmp_path, 2, program)
    assert processes.run(task, conditions, command) == code


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.\nMore."),
        RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 4 bytes."),
    ],
)
def test_memory_that_is_not_there_is_one_line_and_a_failure(
    error: Exception, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def takes_too_much(*_: object) -> int:
        raise error

    monkeypatch.setattr(processes, "_computed", takes_too_much)
    task, conditions, _ = packed(tmp_path, 1, "")
    assert processes.run_here(task.nodes[0], conditions) == FAILED
    (line,) = capsys.readouterr().err.splitlines()
    first = str(error).partition("\n")[0]
    advice = "error: out of memory: compute fewer nodes at the same time with --parallel N, or give each more memory"
    assert line == f"{advice}: {first}"


def test_error_that_nobody_expected_is_shown_with_where_it_was_raised(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(processes, "_computed", lambda *_: {}["no such key"])
    task, conditions, _ = packed(tmp_path, 1, "")
    assert processes.run_here(task.nodes[0], conditions) == FAILED
    assert "Traceback" in (printed := capsys.readouterr().err)
    assert "KeyError: 'no such key'" in printed


RUN = """
import sys
from pathlib import Path
from dae_ssl.compute import processes
from dae_ssl.compute.nodes import Node, Task
from dae_ssl.compute.resources import Resources
from tests.forged import a_cell
task = Task(0, tuple(Node("pretrain", str(n), None, a_cell()) for n in range(2)))
conditions = processes.Conditions(store=Path(sys.argv[1]), resources=Resources(packing=2))
output = processes.Output(lambda line: print(line, flush=True))
sys.exit(processes.run(task, conditions, [sys.executable, sys.argv[2]], output))
"""
CELLS = """
signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
open(f'{sys.path[0]}/up{number}', 'w').close()
time.sleep(3600)
"""


def start(tmp_path: Path) -> "subprocess.Popen[bytes]":
    _, _, (_, program) = packed(tmp_path, 2, CELLS)
    process = subprocess.Popen([sys.executable, "-c", RUN, str(tmp_path), program])
    until(lambda: len(list(tmp_path.glob("up*"))) == 2)
    return process


@pytest.mark.parametrize(("number", "code"), [(signal.SIGUSR2, 140), (signal.SIGTERM, 143)])
def test_request_to_stop_reaches_every_process_and_is_told_by_the_exit_code(
    number: signal.Signals, code: int, tmp_path: Path
) -> None:
    process = start(tmp_path)
    process.send_signal(number)
    assert process.wait(PATIENCE) == code


def test_processes_of_a_task_that_is_killed_die_with_it(tmp_path: Path) -> None:
    process = start(tmp_path)
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    assert len(children) == 2
    process.kill()
    process.wait()
    until(lambda: all(ended(Path("/proc", child)) for child in children), lambda: "a process of the task computes on")


def after(tmp_path: Path, code: int, attempts: int = 1, own: str | None = None) -> tuple[int, list[str], int]:
    """Run what follows a task, some times; return its exit code, the outcomes, and how often it was queued again."""
    (tmp_path / "scontrol").write_text(f'#!/bin/sh\necho "$@" >> {tmp_path}/asked\n')
    (tmp_path / "scontrol").chmod(0o755)
    environment = {"PATH": f"{tmp_path}:{os.environ['PATH']}", "SLURM_JOB_ID": "9", "SLURM_ARRAY_JOB_ID": "7",
                   "SLURM_ARRAY_TASK_ID": "3", "SLURMD_NODENAME": "node1", "DAE_SSL_GRACE_SECONDS": "0"}  # fmt: skip
    if own is not None:
        (tmp_path / "codes").write_text("".join(f"{line}\n" for line in own.split()))
        environment["DAE_SSL_TASK_CODES"] = str(tmp_path / "codes")
    command = ["bash", str(AFTER_TASK), str(code), str(tmp_path / "outcomes"), "4", "2"]
    for _ in range(attempts):
        ended = subprocess.run(command, env=environment, capture_output=True, check=False)
    asked = (tmp_path / "asked").read_text().splitlines() if (tmp_path / "asked").exists() else []
    assert set(asked) <= {"requeue 7_3"}
    lines = (tmp_path / "outcomes").read_text().splitlines()
    return ended.returncode, [line.split('"outcome": "')[1].removesuffix('"}') for line in lines], len(asked)


@pytest.mark.parametrize(
    ("code", "outcome", "requeues"),
    [(0, "done", 0), (1, "failed", 0), (2, "failed", 0), (143, "stopped", 0), (130, "stopped", 0), (255, "failed", 0),
     (140, "continues", 1), (75, "was killed", 1), (137, "was killed", 1), (139, "was killed", 1)],
)  # fmt: skip
def test_what_follows_a_task_depends_on_how_it_ended(code: int, outcome: str, requeues: int, tmp_path: Path) -> None:
    assert after(tmp_path, code) == (code, [outcome], requeues)


@pytest.mark.parametrize(
    ("code", "own", "outcome"),
    [
        (1, "began 75", "was killed"),  # out of memory in one rank
        (1, "began", "was killed"),  # out of memory, the whole task
        (1, "began 1", "failed"),
        (1, None, "failed"),  # a container or Python that does not start
        (137, "began began 1", "failed"),  # two machines: one failed, and SLURM killed the other
        (75, "began 75 began 1", "failed"),
        (143, "began 140 began 143", "continues"),
        (137, "began", "was killed"),
        (0, "began 0", "done"),
    ],
)
def test_what_a_task_says_of_itself_is_believed_before_what_srun_made_of_it(
    code: int, own: str | None, outcome: str, tmp_path: Path
) -> None:
    assert after(tmp_path, code, own=own)[1] == [outcome]


def test_requeues_are_bounded_where_outcomes_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    (tmp_path / "scontrol").write_text(f"#!/bin/sh\ntouch {tmp_path}/asked\n")
    (tmp_path / "scontrol").chmod(0o755)
    for restarts, again in ((3, True), (4, False)):
        (tmp_path / "asked").unlink(missing_ok=True)
        monkeypatch.setenv("SLURM_RESTART_COUNT", str(restarts))
        subprocess.run(["bash", AFTER_TASK, "140", tmp_path / "no" / "outcomes", "4", "2"], check=False)
        assert (tmp_path / "asked").exists() == again


@pytest.mark.parametrize(("code", "outcome", "limit"), [(140, "continues", 4), (137, "was killed", 2)])
def test_attempts_are_bounded(code: int, outcome: str, limit: int, tmp_path: Path) -> None:
    assert after(tmp_path, code, attempts=limit + 1) == (code, [outcome] * limit + ["given up"], limit)
