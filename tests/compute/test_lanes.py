"""A lane seen from outside: its process, started, given nodes, heard, stopped and killed."""

import errno
import os
import resource
import subprocess
from pathlib import Path

import pytest

from dae_ssl.files import StoreError
from tests.compute.played import Played


def test_lane_that_cannot_be_started_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    played = Played(tmp_path, "")

    def refused(*_: object, **__: object) -> None:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    monkeypatch.setattr(subprocess, "Popen", refused)
    with pytest.raises(
        StoreError, match="process 1 cannot be started: Too many open files: choose fewer with --parallel N"
    ):
        played.run()


def test_lanes_are_heard_also_where_more_files_are_open_than_select_takes(tmp_path: Path) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard < 1200:
        pytest.skip(f"at most {hard} files may be open here")
    opened = list[int]()
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, 1200), hard))
    try:
        opened += [os.open(os.devnull, os.O_RDONLY) for _ in range(1050)]
        played = Played(tmp_path, "", cells=1, lanes=1)
        played.run()
    finally:
        for file in opened:
            os.close(file)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert played.states() == ["done"] * 4
