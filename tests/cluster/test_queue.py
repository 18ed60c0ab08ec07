"""What SLURM's commands print is read as it stands, and what they refuse is one line in their words."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from dae_ssl.cluster import queue
from dae_ssl.cluster.queue import Queued, SlurmError

Command = Callable[[str, str], None]


@pytest.fixture
def command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Command:
    """Have only the commands that a test writes, in the shell's language, and the shell."""
    monkeypatch.setenv("PATH", f"{tmp_path}")

    def write(name: str, script: str) -> None:
        (tmp_path / name).write_text(f"#!/bin/sh\n{script}\n")
        (tmp_path / name).chmod(0o755)

    return write


def test_tasks_are_read_with_whatever_their_comments_hold(command: Command) -> None:
    command("squeue", "echo '17|3|RUNNING|None|alpha.probe-0.ab|dae_ssl x | y'; echo '18|N/A|PENDING|Priority|job|'")
    running, waiting = queue.queue()
    assert running == Queued("17", 3, "RUNNING", "None", "alpha.probe-0.ab", "dae_ssl x | y")
    assert (running.task, running.pending) == ("17_3", False)
    assert (waiting.task, waiting.pending, waiting.reason) == ("18", True, "Priority")


def test_options_of_the_shell_change_nothing_in_what_slurm_prints(
    command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SQUEUE_FORMAT", "%i")
    monkeypatch.setenv("SLURM_CONF", "/etc/mine.conf")
    command("squeue", 'echo "1|0|RUNNING|$SQUEUE_FORMAT|$SLURM_CONF|"')
    (task,) = queue.queue()
    assert (task.reason, task.name) == ("", "/etc/mine.conf")
    assert os.environ["SQUEUE_FORMAT"] == "%i"


def test_largest_array_is_read_of_the_clusters_settings(command: Command) -> None:
    command("scontrol", "echo 'MaxArraySize            = 4001'")
    assert queue.array_size() == 4001
    command("scontrol", "echo 'MaxJobCount = 10'")
    with pytest.raises(SlurmError, match="does not print MaxArraySize: set array_size in the profile"):
        queue.array_size()


def test_history_is_told_where_a_cluster_keeps_it_and_is_empty_where_not(command: Command) -> None:
    assert queue.ended(["17_3"]) == {}, "no sacct"
    command("sacct", "echo '17_3|CANCELLED by 0'; echo '17_4|COMPLETED'")
    assert queue.ended(["17_3", "17_4"]) == {"17_3": "CANCELLED", "17_4": "COMPLETED"}
    assert queue.ended([]) == {}
    command("sacct", "echo 'Slurm accounting storage is disabled' >&2; exit 1")
    assert queue.ended(["17_3"]) == {}


def test_what_slurm_refuses_is_one_line_in_its_words(command: Command) -> None:
    command("squeue", "printf 'slurm_load_jobs error:\\n  Unable to contact slurm controller\\n' >&2; exit 1")
    with pytest.raises(SlurmError, match=r"^squeue: slurm_load_jobs error: Unable to contact slurm controller$"):
        queue.queue()
    with pytest.raises(SlurmError, match=r"^scancel is not on this machine: submit from a machine that has SLURM"):
        queue.cancel(["17"])
    queue.cancel([])
    command("scontrol", "while :; do :; done")
    with pytest.raises(SlurmError, match=r"^scontrol did not answer within 0\.2 s: try again later$"):
        queue.ask(["scontrol"], seconds=0.2)


def test_machine_with_sbatch_has_slurm(command: Command) -> None:
    assert not queue.available()
    command("sbatch", "exit 1")
    assert queue.available()
