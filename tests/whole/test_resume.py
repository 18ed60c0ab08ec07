"""A run that is killed or signalled at any moment, and resumed, ends bit for bit where an uninterrupted one ends.

Run as a program (`python -m tests.whole.test_resume FOLDER SEED`) this is the parent of the runs: it imports PyTorch
once, forks a child for every life of a run, ends it at a random moment, and prints what it saw.
"""

import contextlib
import json
import math
import os
import random
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from torch import nn

from dae_ssl.compute.interrupt import SIGNALS, StopRequest, stop_requests
from dae_ssl.config import cell
from dae_ssl.distributed import World
from dae_ssl.training import pretrain as loop
from dae_ssl.training.checkpoint import States, serialise

ROOT = Path(__file__).parents[2]
KILLS = 20
FINISHED, INTERRUPTED, FAILED = 0, 75, 1
SAVES_EVERY_STEP, SAVES_ONLY_WHEN_ASKED = -1.0, 3600.0
PATIENCE_SECONDS = 120
RUN = cell(
    method={"name": "dae", "embedding": "l2", "alpha": 1},
    optimisation={"epochs": 3, "batch_size": 4, "learning_rate": 1e-3},
)
"""Three epochs of four steps."""
STEPS = 4
"""An epoch has so many; a life that is to be killed is let do at most these."""


@dataclass
class Reporter:
    """A watch that writes to a pipe where its run was resumed, and every step."""

    pipe: int
    request: StopRequest

    def log(self, epoch: int, terms: Mapping[str, float]) -> None: ...

    def event(self, kind: str, text: str) -> None:
        os.write(self.pipe, f"{kind} {text}\n".encode())

    def facts(self, facts: Mapping[str, object]) -> None: ...

    def progress(self, epoch: int, step: int, steps: int) -> None:
        os.write(self.pipe, f"step {epoch} {step} of {steps}\n".encode())

    def keep(self, epoch: int, networks: nn.ModuleDict) -> None: ...

    def stop(self) -> bool:
        return self.request()


def live(folder: Path, pipe: int, save_seconds: float) -> int:
    """Train in this process to the end, which writes `folder`/weights, or to a signal; return the exit code."""
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (16, 3, 32, 32), dtype=torch.uint8, generator=generator)
    with stop_requests() as request:
        try:
            alone, watch = World(0, 1, torch.device("cpu")), Reporter(pipe, request)
            networks = loop.pretrain(RUN, images, alone, States(folder), watch, save_seconds=save_seconds)
        except loop.Interrupted:
            return INTERRUPTED
    (folder / "weights").write_bytes(serialise(networks.state_dict()))
    return FINISHED


@dataclass
class Life:
    """A child that trains, and what it said."""

    process: int
    pipe: int
    said: str = ""

    def listen(self, seconds: float, steps: float = math.inf) -> None:
        """Read what the child says until it has done so many steps, it ends, or the time is over."""
        end = time.monotonic() + seconds
        while self.steps() < steps and (left := end - time.monotonic()) > 0:
            if select.select([self.pipe], [], [], left)[0]:
                content = os.read(self.pipe, 4096)
                if not content:
                    return
                self.said += content.decode()

    def steps(self) -> int:
        """Return how many steps the child has said it has done."""
        return sum(line.startswith("step") for line in self.said.splitlines())

    def end(self, number: signal.Signals | None = None) -> int:
        """Send a signal, if any; return how the child ended, as subprocess does."""
        if number is not None:
            os.kill(self.process, number)
        self.listen(PATIENCE_SECONDS)
        code = os.waitstatus_to_exitcode(os.waitpid(self.process, 0)[1])
        os.close(self.pipe)
        return code


def born(folder: Path, save_seconds: float) -> Life:
    """Fork a child that trains in `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    listen, speak = os.pipe()
    process = os.fork()
    if process:
        os.close(speak)
        return Life(process, listen)
    code = FAILED
    try:
        code = live(folder, speak, save_seconds)
    finally:
        os._exit(code)


def killed_runs(folder: Path, step_seconds: float, chance: random.Random) -> Iterator[dict[str, object]]:
    """Kill and resume runs, KILLS times in all; yield what each life did.

    A life is killed within about a step after it has begun, or done up to four steps: counted by what it says, since on
    a busy machine a life may have done nothing yet after any number of seconds.
    """
    kills = run = 0
    while kills < KILLS:
        run += 1
        finished = False
        while not finished:
            life = born(folder / f"killed-{run}", SAVES_EVERY_STEP)
            if kills < KILLS:
                life.listen(PATIENCE_SECONDS, steps=chance.randint(0, STEPS))
                life.listen(chance.uniform(0, step_seconds))
                with contextlib.suppress(ProcessLookupError):
                    os.kill(life.process, signal.SIGKILL)
            code = life.end()
            kills += code == -signal.SIGKILL
            finished = code == FINISHED
            yield {"run": run, "code": code, "said": life.said}
            if code not in (FINISHED, -signal.SIGKILL):
                return


def signalled_run(folder: Path, number: signal.Signals, wait: float) -> dict[str, object]:
    """Signal a run `wait` seconds after its first step, resume it, and return what both lives did."""
    life = born(folder, SAVES_ONLY_WHEN_ASKED)
    life.listen(PATIENCE_SECONDS, steps=1)
    life.listen(wait)
    before = life.steps()
    code = life.end(number)
    saved = len(States(folder).newest_first())
    resumed = born(folder, SAVES_ONLY_WHEN_ASKED)
    return {
        "code": code,
        "further": life.steps() - before,
        "saved": saved,
        "said": life.said,
        "resumed_code": resumed.end(),
        "resumed_said": resumed.said,
    }


def main(folder: Path, seed: int) -> None:
    """Do every run and print what was seen as JSON."""
    import torch._dynamo  # else the optimizer imports it, in every child

    torch.set_num_threads(1)  # a child has no thread but the one that forked
    chance = random.Random(seed)
    began = time.monotonic()
    whole = born(folder / "whole", SAVES_EVERY_STEP)
    code = whole.end()
    step_seconds = (time.monotonic() - began) / (RUN.optimisation.epochs * STEPS)
    killed = list(killed_runs(folder, step_seconds, chance))
    signalled = {s.name: signalled_run(folder / s.name, s, chance.uniform(0, step_seconds)) for s in SIGNALS}
    print(json.dumps({"whole": code, "killed": killed, "signalled": signalled}))


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, object]]:
    """Return the folder of all runs and what their parent saw."""
    folder = tmp_path_factory.mktemp("runs")
    command = [sys.executable, "-m", "tests.whole.test_resume", str(folder), "0"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=500)
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert report["whole"] == FINISHED, done.stderr
    return folder, report


@pytest.mark.slow
def test_a_run_killed_at_random_moments_ends_with_the_weights_of_an_uninterrupted_one(seen) -> None:
    folder, report = seen
    whole = (folder / "whole" / "weights").read_bytes()
    killed = report["killed"]
    assert {life["code"] for life in killed} == {FINISHED, -signal.SIGKILL}
    assert sum(life["code"] == -signal.SIGKILL for life in killed) >= 20
    for run in {life["run"] for life in killed}:
        assert (folder / f"killed-{run}" / "weights").read_bytes() == whole
    resumed = {line for life in killed for line in life["said"].splitlines() if line.startswith("resumed")}
    assert len(resumed) >= 3, "the kills hardly ever hit a run that had begun"
    assert "damaged" not in str(killed), "a kill left a checkpoint that is not whole"


@pytest.mark.slow
@pytest.mark.parametrize("number", SIGNALS, ids=lambda s: s.name)
def test_a_signal_stops_a_run_at_once_with_its_state_saved_and_it_resumes_exactly(number, seen) -> None:
    folder, report = seen
    found = report["signalled"][number.name]
    assert (found["code"], found["saved"]) == (INTERRUPTED, 1)
    assert found["further"] <= 2, "it went on: only what was said but not read yet, and the step under way, may follow"
    assert "resumed after epoch" in found["resumed_said"]
    steps = [line for said in ("said", "resumed_said") for line in found[said].splitlines() if line.startswith("step")]
    assert steps == [f"step {epoch} {step} of 4" for epoch in range(3) for step in range(1, 5)], "a step was repeated"
    assert found["resumed_code"] == FINISHED
    assert (folder / number.name / "weights").read_bytes() == (folder / "whole" / "weights").read_bytes()


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
