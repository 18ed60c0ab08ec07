"""From a plan to batch scripts: what is written down before anything is sent."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

SCALE = """
import sys, time
from pathlib import Path
import dae_ssl.training.methods
from dae_ssl import config
from dae_ssl.cluster import launch
from dae_ssl.planning import plan
from dae_ssl.planning.profile import Profile
from dae_ssl.store import Store
cells = [config.cell({"method": {"name": "dae", "embedding": "l2", "alpha": a / 100}, "seed": s})
         for a in range(2500) for s in range(4)]
store, profile = Store(Path(sys.argv[1])), Profile.of("gpu4", {"stages": {"pretrain": {"gpus_per_machine": 1}}})
began = time.process_time()
planned = plan.make(cells, store, profile, queued={}, array_size=1001)
sent = launch.intend(planned, store, profile, experiment="scale", mlflow_experiment="scale")
scripts = [launch.script(sent, array, array.after and "1", store, profile).text() for array in planned.arrays]
# Of this program alone: getrusage would count the process that it was forked from.
peak = int(Path("/proc/self/status").read_text().partition("VmHWM:")[2].split()[0]) / 2**20
print(len(planned.wanted), len(planned.arrays), len(scripts), time.process_time() - began, peak)
"""


@pytest.mark.slow
def test_ten_thousand_cells_are_planned_in_seconds_within_a_gigabyte(tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, "-c", SCALE, str(tmp_path)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    nodes, arrays, scripts, seconds, gigabytes = map(float, done.stdout.split())
    assert (nodes, arrays, scripts) == (40_000, 40, 40)
    assert seconds < 10
    assert gigabytes < 1
    lines = [line for path in tmp_path.glob("launches/*/*.jsonl") for line in path.read_text().splitlines()[1:]]
    assert sum(len(json.loads(line)["nodes"]) for line in lines) == nodes
