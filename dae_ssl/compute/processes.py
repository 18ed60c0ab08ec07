"""The processes of a task: ranks under torchrun, packed cells side by side, and everything else in this process.

`slurm/after_task.sh` acts on the exit code of a task. The process that starts ranks does not import torch, because it
must react within a second when SLURM tells it to stop.
"""

import contextlib
import dataclasses
import functools
import os
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from dae_ssl import config, lock
from dae_ssl.compute.interrupt import Stopped, StopRequest, die_with_parent, stop_requests, stopping
from dae_ssl.compute.nodes import Node, Task
from dae_ssl.compute.resources import FORMER, Resources
from dae_ssl.config import Cell, ConfigError
from dae_ssl.files import StoreError
from dae_ssl.store import Store

if TYPE_CHECKING:
    from dae_ssl.data.sets import Memo

DONE, FAILED, BAD_INPUT, TRY_AGAIN = 0, 1, 2, 75
"""Exit codes, as slurm/after_task.sh reads them; a task that was asked to stop has 128 + the number of the signal."""
SAVE_SECONDS = 30.0
"""The seconds between two saved states of pretraining, unless the profile sets them."""
LONGEST_REASON = 200
"""The largest number of characters of PyTorch's message about lacking memory that is shown."""
VERDICTS = "DAE_SSL_RANK_CODES"
"""Environment variable that names the folder in which each rank of this machine writes its exit code before it ends."""
TASK_CODES = "DAE_SSL_TASK_CODES"
"""Environment variable that names the file to which a task's process on each machine appends its exit code."""


@dataclass(frozen=True, kw_only=True)
class Conditions:
    """The conditions under which tasks are computed; none of them changes the results."""

    store: Path
    resources: Resources
    device: str = "auto"
    save_seconds: float = SAVE_SECONDS
    mlflow_experiment: str = "dae_ssl"
    keep_features: bool = True
    """If False, features are dropped once all nodes that read them, of all described cells, are done."""

    @classmethod
    def of(cls, plain: Mapping[str, Any]) -> Self:
        """Return the conditions that `plain` wrote, in this version or an earlier one."""
        resources = {FORMER.get(name, name): value for name, value in plain["resources"].items()}
        return cls(**{**plain, "resources": config.build(Resources, resources), "store": Path(plain["store"])})

    def plain(self) -> dict[str, Any]:
        """Return the conditions in a form that JSON can hold, to pass them to another process."""
        stated = dataclasses.asdict(self) | {"store": str(self.store)}
        if self.keep_features:  # added later, and left out if it has its default
            del stated["keep_features"]
        return stated


Copying = Callable[[Cell, Callable[[str], None]], AbstractContextManager[object]]


def not_copied(_cell: Cell, _tell: Callable[[str], None]) -> AbstractContextManager[object]:
    return contextlib.nullcontext()


@dataclass(frozen=True)
class Output:
    """Receives the messages and the progress of a task."""

    tell: Callable[[str], None] = print
    progress: Callable[[str, int, int], None] = lambda _what, _done, _total: None
    copying: Copying = not_copied
    """Returns a context manager that copies a cell's log, for example to MLflow, while its block runs."""


# ---------------------------------------------------------------------------------- one process of a task


def accounted(compute: Callable[[], int]) -> int:
    """Return a task's exit code, and append it to the file that its batch script reads, also if the task raises.

    The file also records that the task began, so that a killed task differs from one that cannot start.
    """
    code = FAILED
    if TASK_CODES in os.environ:
        with Path(os.environ[TASK_CODES]).open("a") as file:
            file.write("began\n")
    try:
        code = compute()
    except SystemExit as exiting:
        code = exiting.code if isinstance(exiting.code, int) else FAILED
        raise
    finally:
        if TASK_CODES in os.environ:
            with Path(os.environ[TASK_CODES]).open("a") as file:
                file.write(f"{code}\n")
    return code


def one_memo() -> Callable[[], "Memo"]:
    """Return a function that returns always the same memo of what was read, and imports torch at its first call."""

    @functools.cache
    def made() -> "Memo":
        from dae_ssl.data.sets import Memo

        return Memo()

    return made


def run(
    task: Task,
    conditions: Conditions,
    command: Sequence[str],
    output: Output = Output(),
    memo: Callable[[], "Memo"] | None = None,
) -> int:
    """Compute the task's nodes and return its exit code; `memo` spares reading again what earlier tasks have read.

    `command` is how this process was started; with `--only N` it computes only the N-th node. A node runs in as many
    processes as it needs, each with its share of the processors unless OMP_NUM_THREADS is set. If a node fails, the
    task's other nodes are computed all the same.
    """
    share = conditions.resources.cpus_per_machine // _at_once(task, conditions.resources)
    threads = os.environ.get("OMP_NUM_THREADS") or str(max(1, share))
    if conditions.resources.packing > 1 and len(task.nodes) > 1 and task.nodes[0].stage == "pretrain":
        return _run_packed(task, conditions, command, threads, output)
    codes, memo = [], memo or one_memo()
    for number, node in enumerate(task.nodes):
        several = conditions.resources.ranks > 1 and node.stage == "pretrain"
        alone = partial(run_here, node, conditions, output, memo)
        codes.append(_run_ranks(task, number, conditions, command, threads, output) if several else alone())
        if codes[-1] not in (DONE, FAILED, BAD_INPUT):
            return codes[-1]
    return max(codes, default=DONE)


def run_here(
    node: Node, conditions: Conditions, output: Output = Output(), memo: Callable[[], "Memo"] | None = None
) -> int:
    """Compute a node in this process, which may be one of several ranks, and return its exit code."""
    if os.environ.get("RANK", "0") != "0":
        output = Output(tell=lambda _line: None)
    verdict = None
    try:
        verdict = _computed(node, conditions, output, memo or one_memo())
    except Stopped as stopped:
        output.tell(f"{stopped}; run it again to continue")
        lost = node.stage != "pretrain" and stopped.number == signal.SIGUSR2
        verdict = TRY_AGAIN if lost else stopped.code
    except ConfigError as error:
        verdict = _failed(error, BAD_INPUT)
    except lock.Locked as error:  # by another process, since this task began
        verdict = _failed(error, TRY_AGAIN)
    except (StoreError, ArithmeticError) as error:
        verdict = _failed(error, FAILED)
    except Exception as error:
        verdict = _unforeseen(error)
    finally:
        if verdict is not None and VERDICTS in os.environ:
            Path(os.environ[VERDICTS], os.environ["RANK"]).write_text(str(verdict))
    return verdict


def _computed(node: Node, conditions: Conditions, output: Output, memo: Callable[[], "Memo"]) -> int:
    from dae_ssl.compute import cells, life
    from dae_ssl.compute.stages import Context
    from dae_ssl.data import prepared
    from dae_ssl.distributed import World, world

    cell, store = node.cell, Store(conditions.store)
    prepared.require_fits(store, cell)
    with contextlib.ExitStack() as stack:
        if os.environ.get("RANK", "0") == "0":
            cells.describe(cell, store)
            stack.enter_context(output.copying(cell, output.tell))
        ranks = stack.enter_context(world(conditions.device))
        if not cell.method.trains:  # one rank is enough
            if not ranks.first:
                return DONE
            ranks = World(0, 1, ranks.device)
        context = Context(store, ranks, output.tell, output.progress, save_seconds=conditions.save_seconds,
                          keep_features=conditions.keep_features, memo=memo())  # fmt: skip
        if node.stage == "pretrain" and cell.method.trains:
            life.pretrain(cell, context)
        else:
            with stopping():
                life.compute(cell, node.stage, context)
    return DONE


def _unforeseen(error: Exception) -> int:
    """Print an unexpected error, in one line if its cause is known and otherwise with a traceback; return a code."""
    from dae_ssl.distributed import lost_peer, out_of_memory

    if lost_peer(error):  # the other rank reports the reason, or was killed
        return _failed(error, TRY_AGAIN)
    if out_of_memory(error):
        reason = str(error).partition("\n")[0][:LONGEST_REASON]
        advice = "out of memory: compute fewer nodes at the same time with --parallel N, or give each more memory"
        return _failed(MemoryError(f"{advice}: {reason}"), FAILED)
    traceback.print_exc()
    return FAILED


def _failed(error: Exception, code: int) -> int:
    print(f"error: {error}", file=sys.stderr, flush=True)
    return code


# ---------------------------------------------------------------------------------- several processes


def _run_ranks(
    task: Task, number: int, conditions: Conditions, command: Sequence[str], threads: str, output: Output
) -> int:
    """Pretrain one node on all ranks of this machine, together with those of other machines if there are several."""
    node, resources = task.nodes[number], conditions.resources
    with stop_requests() as request, tempfile.TemporaryDirectory() as verdicts:
        # Ranks cannot wait for a lock, since a collective operation has a time limit; this process can.
        with (
            contextlib.suppress(lock.Locked),
            lock.held(Store(conditions.store).node(node.stage, node.key).lock, tell=output.tell, give_up=request),
        ):
            pass
        if request.number is not None:
            return 128 + request.number
        launcher = [sys.executable, "-m", "torch.distributed.run", *_rendezvous(resources),
                    f"--nproc-per-node={resources.ranks_per_machine}", *command[1:], f"--only={number}"]  # fmt: skip
        (code,) = _watched([_start(launcher, {VERDICTS: verdicts, "OMP_NUM_THREADS": threads})], request)
        rank_codes = [int(path.read_text()) for path in Path(verdicts).iterdir()]
    if code == 0:
        return DONE if request.number is None else 128 + request.number
    if request.number is not None and not {FAILED, BAD_INPUT} & set(rank_codes):
        return 128 + request.number
    # If no rank has reported a failure, one was killed.
    return max((verdict for verdict in rank_codes if verdict in (FAILED, BAD_INPUT)), default=TRY_AGAIN)


def _rendezvous(resources: Resources) -> list[str]:
    """Return the options by which torchrun's ranks find each other; the batch script chose the address for machines."""
    if resources.machines == 1:
        return ["--standalone"]
    attempt = f"{os.environ.get('SLURM_JOB_ID', '0')}.{os.environ.get('SLURM_RESTART_COUNT', '0')}"
    return [f"--nnodes={resources.machines}", "--rdzv-backend=c10d", f"--rdzv-id={attempt}",
            f"--rdzv-endpoint={os.environ['DAE_SSL_RENDEZVOUS']}"]  # fmt: skip


def _run_packed(task: Task, conditions: Conditions, command: Sequence[str], threads: str, output: Output) -> int:
    """Compute the task's nodes side by side, each on a GPU of its own where there are GPUs."""
    visible, has_gpus = os.environ.get("CUDA_VISIBLE_DEVICES", "").split(","), conditions.resources.gpus_per_machine > 0
    with stop_requests() as request:
        processes = []
        for number, node in enumerate(task.nodes):
            gpu = {"CUDA_VISIBLE_DEVICES": visible[number]} if has_gpus and visible[0] else {}
            processes.append(_start([*command, f"--only={number}"], gpu | {"OMP_NUM_THREADS": threads}))
            output.tell(f"{node.stage} {node.key}: process {processes[-1].pid}")
        codes = _watched(processes, request)
    if request.number is not None and any(codes):
        return 128 + request.number
    again = any(code not in (DONE, FAILED, BAD_INPUT) for code in codes)
    return TRY_AGAIN if again else max(codes)


def _start(command: Sequence[str], variables: Mapping[str, str]) -> "subprocess.Popen[bytes]":
    def prepare() -> None:
        die_with_parent()
        # If SLURM signals every process of a task, torchrun would die of it before its ranks could save.
        signal.signal(signal.SIGUSR2, signal.SIG_IGN)

    environment = {name: value for name, value in os.environ.items() if name != TASK_CODES} | dict(variables)
    return subprocess.Popen(command, env=environment, preexec_fn=prepare)  # noqa: PLW1509  (there are no threads)


def _watched(processes: Sequence["subprocess.Popen[bytes]"], request: StopRequest) -> list[int]:
    """Wait for all processes, passing on a request to stop once; return their exit codes."""
    asked = False
    while any(process.poll() is None for process in processes):
        if request() and not asked:
            asked = True
            for process in processes:
                if process.poll() is None:
                    process.terminate()
        time.sleep(0.1)
    return [process.returncode for process in processes]


def _at_once(task: Task, resources: Resources) -> int:
    """Return the number of processes of a task that compute at the same time on one machine."""
    return max(resources.ranks_per_machine, min(resources.packing, len(task.nodes)))
