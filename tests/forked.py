"""Commands in processes that are forked from one that has imported everything: as apart as people's, and hundreds.

For root no file is unreadable; here root gives up that privilege, so that permissions mean what they mean for others.
"""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from tests.patience import PATIENCE

SERVER = """
import json, os, signal, sys
import jobs.__main__, jobs.plan, jobs.report, jobs.results, jobs.run, jobs.status
import dae_ssl.compute.life, dae_ssl.evaluation.kmeans, dae_ssl.report.cell.page, dae_ssl.report.experiment.page
import torch
torch.set_num_threads(1)
for line in sys.stdin:
    asked = json.loads(line)
    child = os.fork()
    if child == 0:
        for stream, name in enumerate(("/dev/null", asked["printed"], asked["said"])):
            file = os.open(name, os.O_RDWR | os.O_CREAT, 0o666)
            os.dup2(file, stream)
        os.chdir(asked["folder"])
        os.environ.update(asked["variables"])
        signal.alarm(asked["seconds"])
        os._exit(jobs.__main__.main(asked["words"]))
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""
PRIVILEGES = "-dac_override,-dac_read_search"


@dataclass(frozen=True)
class Done:
    """How a command ended: negative numbers are signals, -14 that it did not end in time."""

    code: int
    printed: str
    said: str


class Commands:
    """A process that forks one for each command."""

    def __init__(self) -> None:
        privileged = os.geteuid() == 0
        less = ["setpriv", "--inh-caps", PRIVILEGES, "--bounding-set", PRIVILEGES] if privileged else []
        kept = {
            name: value for name, value in os.environ.items() if not name.startswith(("SLURM", "MLFLOW", "DAE_SSL"))
        }
        self._server = subprocess.Popen(
            [*less, sys.executable, "-c", SERVER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
            env=kept | {"OMP_NUM_THREADS": "1", "MPLBACKEND": "agg", "COLUMNS": "200"},
        )  # fmt: skip

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._server.communicate()

    def run(self, *words: object, folder: Path, **variables: str) -> Done:
        """Return how `dae-ssl WORDS` ended in a folder."""
        assert self._server.stdin is not None
        assert self._server.stdout is not None
        with tempfile.TemporaryDirectory() as own:
            printed, said = Path(own) / "printed", Path(own) / "said"
            asked: Mapping[str, object] = {
                "words": [str(word) for word in words], "folder": str(folder), "variables": variables,
                "printed": str(printed), "said": str(said), "seconds": int(PATIENCE),
            }  # fmt: skip
            print(json.dumps(asked), file=self._server.stdin, flush=True)
            code = int(self._server.stdout.readline())
            return Done(code, printed.read_text(errors="replace"), said.read_text(errors="replace"))
