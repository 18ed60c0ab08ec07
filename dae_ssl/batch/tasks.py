"""What one array task does: its nodes, on the ranks and GPUs that SLURM gave it.

    an array's file:   a header, then a line for each task
    the task           starts torchrun for a node with several ranks, packed cells side by side, all else in itself
    its exit code      what `slurm/after_task.sh` acts on

The process that starts ranks imports no torch: it has to be awake within a second when SLURM tells it to stop.
"""

import contextlib
import dataclasses
import functools
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dae_ssl import config, lock
from dae_ssl.batch.interrupt import Stopped, StopRequest, die_with_parent, stop_requests, stopping
from dae_ssl.batch.profile import Resources
from dae_ssl.config import ConfigError
from dae_ssl.store import CELL, Store, StoreError

if TYPE_CHECKING:
    from dae_ssl.data import Memo

DONE, FAILED, BAD_INPUT, TRY_AGAIN = 0, 1, 2, 75
"""Exit codes, beside 128 + signal for a task that was asked to stop; as slurm/after_task.sh reads them."""
SAVE_SECONDS = 30.0
"""How often pretraining saves its state, where no profile says so."""
VERDICTS = "DAE_SSL_RANK_CODES"
"""Names the folder in which each rank of this machine leaves its exit code, if it comes to have one."""
TASK_CODES = "DAE_SSL_TASK_CODES"
"""Names the file to which a task's process on each machine adds its exit code, for the batch script."""


@dataclass(frozen=True, kw_only=True)
class Item:
    """One node of a task: its place in the store, and the settings of a cell that needs it."""

    stage: str
    key: str
    settings: Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class Work:
    """A task: its nodes, and how they are computed, none of which changes what is computed."""

    store: Path
    resources: Resources
    items: tuple[Item, ...]
    device: str = "auto"
    save_seconds: float = SAVE_SECONDS
    mlflow_experiment: str = "dae_ssl"


@dataclass(frozen=True)
class Told:
    """Where a task's own words go."""

    tell: Callable[[str], None] = print
    progress: Callable[[str, int, int], None] = lambda _what, _done, _total: None


# ---------------------------------------------------------------------------------- the file of an array


def lines(header: Work, tasks: Mapping[int, Sequence[Item]]) -> Iterator[str]:
    """Yield the file of an array: what all its tasks share, then each task by its index."""
    shared = dataclasses.asdict(header) | {"store": str(header.store)}
    del shared["items"]
    yield json.dumps(shared)
    for index, items in tasks.items():
        nodes = [{"stage": item.stage, "key": item.key, "settings": item.settings} for item in items]
        yield json.dumps({"index": index, "nodes": nodes})


def read(path: Path, index: int) -> Work:
    """Return the task at an index. Raises StoreError if the file does not tell."""
    for found, work in _tasks(path):
        if found == index:
            return work
    raise StoreError(f"{path} has no task {index}: submit again, which writes a new file")


def nodes(path: Path) -> dict[int, list[tuple[str, str]]]:
    """Return (stage, key) of every node by task. Raises StoreError if the file cannot be read."""
    try:
        listed = [json.loads(line) for line in path.read_text().splitlines()[1:]]
        return {int(task["index"]): [(node["stage"], node["key"]) for node in task["nodes"]] for task in listed}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise StoreError(f"{path} does not describe the tasks of an array: {error!r}") from error


def _tasks(path: Path) -> Iterator[tuple[int, Work]]:
    try:
        with path.open() as file:
            shared = json.loads(next(file))
            resources = config.build(Resources, shared.pop("resources"))
            shared |= {"resources": resources, "store": Path(shared["store"])}
            for line in file:
                task = json.loads(line)
                yield int(task["index"]), Work(**shared, items=tuple(Item(**node) for node in task["nodes"]))
    except (OSError, ValueError, KeyError, TypeError, StopIteration) as error:
        raise StoreError(f"{path} does not describe the tasks of an array: {error!r}") from error


def items(store: Store, key: str) -> list[Item]:
    """Return every node of a cell that was described in the store. Raises StoreError if it was not."""
    try:
        described = json.loads(store.cell(key).product(CELL).read_text())
        nodes, settings = dict(described["nodes"]), dict(described["settings"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        known = f"{len(store.cells())} cells are described there"
        raise StoreError(
            f"cell {key} is not described in {store.root} ({known}): submit its experiment once"
        ) from error
    return [Item(stage=stage, key=node, settings=settings) for stage, node in nodes.items()]


# ---------------------------------------------------------------------------------- one process of a task


def accounted(compute: Callable[[], int]) -> int:
    """Return a task's exit code, and add it to the file that its batch script reads, also when it raises.

    That file also tells that the task began, so that one which was killed differs from one that cannot start.
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
    """Return what gives a memo of what was read, always the same, made when first asked for: making it needs torch."""

    @functools.cache
    def made() -> "Memo":
        from dae_ssl.data import Memo

        return Memo()

    return made


def run(work: Work, command: Sequence[str], told: Told = Told(), memo: Callable[[], "Memo"] | None = None) -> int:
    """Compute the task's nodes and return its exit code; with a memo, what earlier tasks read is not read again.

    `command` is how this process was started; with `--only N` added it computes the N-th node and no other, in as many
    processes as that takes, each with its share of the processors unless OMP_NUM_THREADS is set. A node that fails
    leaves the task's others alone.
    """
    threads = os.environ.get("OMP_NUM_THREADS") or str(max(1, work.resources.cpus_per_node // _processes(work)))
    if work.resources.packing > 1 and len(work.items) > 1 and work.items[0].stage == "pretrain":
        return _run_packed(work, command, threads, told)
    codes, memo = [], memo or one_memo()
    for number, item in enumerate(work.items):
        several = work.resources.ranks > 1 and item.stage == "pretrain"
        alone = partial(run_here, work, item, told, memo)
        codes.append(_run_ranks(work, number, command, threads, told) if several else alone())
        if codes[-1] not in (DONE, FAILED, BAD_INPUT):
            return codes[-1]
    return max(codes, default=DONE)


def run_here(work: Work, item: Item, told: Told = Told(), memo: Callable[[], "Memo"] | None = None) -> int:
    """Compute a node in this process, which may be one of several ranks, and return its exit code."""
    if os.environ.get("RANK", "0") != "0":
        told = Told(tell=lambda _line: None)
    verdict = None
    try:
        verdict = _computed(work, item, told, memo or one_memo())
    except Stopped as stopped:
        told.tell(f"{stopped}: goes on when it is run again")
        lost = item.stage != "pretrain" and stopped.number == signal.SIGUSR2
        verdict = TRY_AGAIN if lost else stopped.code
    except ConfigError as error:
        verdict = _failed(error, BAD_INPUT)
    except lock.Locked as error:  # by a process that took it since this task began
        verdict = _failed(error, TRY_AGAIN)
    except (StoreError, ArithmeticError) as error:
        verdict = _failed(error, FAILED)
    except Exception as error:
        from dae_ssl.distributed import lost_peer

        if lost_peer(error):  # that rank, or its death, tells the reason
            return _failed(error, TRY_AGAIN)
        traceback.print_exc()
        verdict = FAILED
    finally:
        if verdict is not None and VERDICTS in os.environ:
            Path(os.environ[VERDICTS], os.environ["RANK"]).write_text(str(verdict))
    return verdict


def _computed(work: Work, item: Item, told: Told, memo: Callable[[], "Memo"]) -> int:
    import dae_ssl.training.methods  # noqa: F401  (registers every method)
    from dae_ssl import data
    from dae_ssl.batch import cells, track
    from dae_ssl.batch.stages import Place, compute
    from dae_ssl.distributed import World, world

    cell, store = config.cell(item.settings), Store(work.store)
    data.require_fits(store, cell)
    with contextlib.ExitStack() as stack:
        if os.environ.get("RANK", "0") == "0":
            cells.describe(cell, store)
            if uri := os.environ.get("MLFLOW_TRACKING_URI"):
                copied = track.LiveCopy(
                    lambda: cells.cell_run(cell, store, work.mlflow_experiment), uri, tell=told.tell
                )
                stack.enter_context(copied)
        ranks = stack.enter_context(world(work.device))
        if not cell.method.trains:  # one rank is enough
            if not ranks.first:
                return DONE
            ranks = World(0, 1, ranks.device)
        place = Place(store, ranks, told.tell, told.progress, save_seconds=work.save_seconds, memo=memo())
        if item.stage == "pretrain" and cell.method.trains:
            cells.pretrain(cell, place)
        else:
            with stopping():
                compute(cell, item.stage, place)
    return DONE


def _failed(error: Exception, code: int) -> int:
    print(f"error: {error}", file=sys.stderr, flush=True)
    return code


# ---------------------------------------------------------------------------------- several processes


def _run_ranks(work: Work, number: int, command: Sequence[str], threads: str, told: Told) -> int:
    """Pretrain one node on all ranks of this machine, and of the others where there are more."""
    item, resources = work.items[number], work.resources
    with stop_requests() as request, tempfile.TemporaryDirectory() as verdicts:
        # The ranks do not wait for a lock, since waiting in an exchange ends in its time limit; this process can.
        with (
            contextlib.suppress(lock.Locked),
            lock.held(Store(work.store).node(item.stage, item.key).lock, tell=told.tell, give_up=request),
        ):
            pass
        if request.number is not None:
            return 128 + request.number
        launcher = [sys.executable, "-m", "torch.distributed.run", *_rendezvous(resources),
                    f"--nproc-per-node={resources.ranks_per_node}", *command[1:], f"--only={number}"]  # fmt: skip
        (code,) = _watched([_start(launcher, {VERDICTS: verdicts, "OMP_NUM_THREADS": threads})], request)
        said = [int(path.read_text()) for path in Path(verdicts).iterdir()]
    if code == 0:
        return DONE if request.number is None else 128 + request.number
    if request.number is not None and not {FAILED, BAD_INPUT} & set(said):
        return 128 + request.number
    # Without a word from the ranks that explains it, one was killed.
    return max((verdict for verdict in said if verdict in (FAILED, BAD_INPUT)), default=TRY_AGAIN)


def _rendezvous(resources: Resources) -> list[str]:
    """Return how torchrun's ranks find each other; across machines at the place that the batch script chose."""
    if resources.nodes == 1:
        return ["--standalone"]
    attempt = f"{os.environ.get('SLURM_JOB_ID', '0')}.{os.environ.get('SLURM_RESTART_COUNT', '0')}"
    return [f"--nnodes={resources.nodes}", "--rdzv-backend=c10d", f"--rdzv-id={attempt}",
            f"--rdzv-endpoint={os.environ['DAE_SSL_RENDEZVOUS']}"]  # fmt: skip


def _run_packed(work: Work, command: Sequence[str], threads: str, told: Told) -> int:
    """Compute the task's nodes side by side, each on a GPU of its own where there are GPUs."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",")
    with stop_requests() as request:
        processes = []
        for number, item in enumerate(work.items):
            own = {"CUDA_VISIBLE_DEVICES": visible[number]} if work.resources.gpus_per_node and visible[0] else {}
            processes.append(_start([*command, f"--only={number}"], own | {"OMP_NUM_THREADS": threads}))
            told.tell(f"{item.stage} {item.key}: process {processes[-1].pid}")
        codes = _watched(processes, request)
    if request.number is not None and any(codes):
        return 128 + request.number
    again = any(code not in (DONE, FAILED, BAD_INPUT) for code in codes)
    return TRY_AGAIN if again else max(codes)


def _start(command: Sequence[str], variables: Mapping[str, str]) -> "subprocess.Popen[bytes]":
    def prepare() -> None:
        die_with_parent()
        # Where SLURM signals every process of a task, torchrun would die of it before its ranks could save.
        signal.signal(signal.SIGUSR2, signal.SIG_IGN)

    environment = {name: value for name, value in os.environ.items() if name != TASK_CODES} | dict(variables)
    return subprocess.Popen(command, env=environment, preexec_fn=prepare)  # noqa: PLW1509  (there are no threads)


def _watched(processes: Sequence["subprocess.Popen[bytes]"], request: StopRequest) -> list[int]:
    """Wait for all processes, passing a request to stop on once; return their exit codes."""
    told = False
    while any(process.poll() is None for process in processes):
        if request() and not told:
            told = True
            for process in processes:
                if process.poll() is None:
                    process.terminate()
        time.sleep(0.1)
    return [process.returncode for process in processes]


def _processes(work: Work) -> int:
    """Return how many processes of this task compute at the same time on a machine."""
    return max(work.resources.ranks_per_node, min(work.resources.packing, len(work.items)))
