"""The command as tests start it: in this process, where what it would print in one line is raised, or as people do."""

import argparse
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import jobs.__main__
import jobs.asked
from dae_ssl.config import Cell
from jobs.asked import Asked

DAE_SSL = [sys.executable, "-m", "jobs"]
"""What `dae-ssl` is in this environment, whatever folder the code stands in."""


def run(verb: str, arguments: Sequence[str] = ()) -> int:
    """Return the exit code of `dae-ssl VERB ARGUMENTS`; ConfigError, StoreError and SlurmError are raised."""
    return jobs.__main__.run([verb, *map(str, arguments)])


def given(verb: str, arguments: Sequence[str] = ()) -> argparse.Namespace:
    """Return what a verb is given by its arguments."""
    return jobs.__main__.parser(verb)[1].read([str(argument) for argument in arguments])


def ask(arguments: Sequence[str], verb: str = "submit") -> Asked:
    """Return the experiment that the arguments of a verb ask for."""
    return jobs.asked.experiment(given(verb, arguments))


def cell_of(arguments: Sequence[str]) -> Cell:
    """Return the cell that settings, and the flags that go with them, describe."""
    return jobs.asked.cell(given("explain", arguments))


def started(*words: object, folder: Path | None = None, **variables: str) -> "subprocess.CompletedProcess[str]":
    """Run `dae-ssl WORDS` as a person would, in a folder, and return what it printed and its exit code."""
    command, env = [*DAE_SSL, *map(str, words)], os.environ | variables
    return subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, timeout=300, check=False)
