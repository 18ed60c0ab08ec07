"""Requests to stop, by signals and by a budget of minutes."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from dae_ssl.compute.interrupt import SIGNALS, Budget, Stopped, stop_requests, stopping
from tests.patience import ended, until

ROOT = Path(__file__).parents[2]


def test_budget_is_over_when_its_minutes_are_by_the_clock() -> None:
    now = 10.0
    budget, from_before = Budget(1.0, lambda: now), Budget(1.0, lambda: now, began=4.0)
    now = 63.9
    assert (budget(), from_before()) == (False, False)
    now = 64.0
    assert (budget(), from_before()) == (False, True)
    now = 70.0
    assert budget()


def test_budget_without_minutes_is_never_over() -> None:
    assert not Budget(None, lambda: 1e300)()


@pytest.mark.parametrize("number", SIGNALS)
def test_request_is_noted_and_the_handlers_are_as_before_after_it(number: signal.Signals) -> None:
    before = [signal.getsignal(each) for each in SIGNALS]
    with stop_requests() as request:
        assert not request()
        os.kill(os.getpid(), number)
        assert (request(), request.number) == (True, number)
    assert [signal.getsignal(each) for each in SIGNALS] == before


def test_first_request_counts_and_a_second_interrupt_interrupts() -> None:
    with stop_requests() as request:
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGTERM)
        assert request.number == signal.SIGINT
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)


def test_what_has_nothing_to_save_is_left_at_once() -> None:
    with stopping(), pytest.raises(Stopped, match="stopped by SIGUSR2 before this stage was done") as stopped:
        os.kill(os.getpid(), signal.SIGUSR2)
    assert stopped.value.code == 128 + signal.SIGUSR2


def test_request_to_stop_that_came_between_two_tasks_counts_for_the_next() -> None:
    with stop_requests() as outer:
        os.kill(os.getpid(), signal.SIGTERM)
        with stop_requests() as inner:
            assert inner.number == outer.number == signal.SIGTERM
        with pytest.raises(Stopped), stopping():
            pytest.fail("nothing is begun")
    with stop_requests() as fresh:
        assert fresh.number is None


CHILD = """
import sys, time
from dae_ssl.compute.interrupt import die_with_parent
die_with_parent()
print("up", flush=True)
time.sleep(3600)
"""
PARENT = """
import subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c", sys.argv[1]], stdout=subprocess.PIPE)
child.stdout.readline()
print(child.pid, flush=True)
time.sleep(3600)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux tells a process that its parent ended")
def test_process_dies_with_the_one_that_started_it_however_that_ends() -> None:
    command = [sys.executable, "-c", PARENT, CHILD]
    parent = subprocess.Popen(command, env=os.environ | {"PYTHONPATH": str(ROOT)}, stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    child = Path(f"/proc/{int(parent.stdout.readline())}")
    parent.kill()
    parent.communicate()
    until(lambda: ended(child), lambda: "it computes on")
