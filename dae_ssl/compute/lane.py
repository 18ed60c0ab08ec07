"""The program of a lane: it reads one node after another from its standard input, computes it and answers.

It reads      {"stage": …, "settings": …}       a node: its stage, and the settings of a cell that needs it
it answers    ["tell", LINE]                    a line for the user
              ["progress", WHAT, DONE, TOTAL]   at most ten times a second
              ["ended", CODE]                   the exit code of processes.py: DONE, FAILED, …

each as a line of JSON. So torch is imported and the GPU initialised only once, not for each node. When a signal asks it
to stop, it saves what can be saved and answers 128 + signal; it ends with its input, or with the process that started
it. It is started as `python -m dae_ssl.compute.lane CONDITIONS`, as is each rank if a cell takes several ranks.
"""

import argparse
import gc
import importlib.util
import json
import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from dae_ssl.compute import processes
from dae_ssl.compute.interrupt import die_with_parent, stop_requests
from dae_ssl.compute.nodes import Node, Task
from dae_ssl.compute.processes import BAD_INPUT, Conditions, Copying, Output, not_copied
from dae_ssl.config import ConfigError
from dae_ssl.store import Store

if TYPE_CHECKING:
    from dae_ssl.data.sets import Memo

COMMAND = (sys.executable, "-m", "dae_ssl.compute.lane")
SCRIPT = "__dae_ssl_script__"
"""The name under which a lane imports a script, which therefore does not run what stands below its guard."""
EVERY_SECONDS = 0.1
"""The least time between two answers about progress."""


def parser() -> argparse.ArgumentParser:
    """Return the parser of a lane's arguments."""
    command = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    command.add_argument("conditions", type=json.loads, metavar="CONDITIONS", help="how nodes are computed, as JSON")
    command.add_argument("--device", default="auto", help="the device to compute on: auto, cpu or cuda")
    command.add_argument("--gpu-share", type=float, default=1.0, help="the share of the GPU's memory that it may take")
    command.add_argument("--path", action="append", default=[], dest="paths", help="a further folder of modules")
    command.add_argument("--import", action="append", default=[], dest="imports",
                         help="a module, or the path of a script, that registers methods or losses")  # fmt: skip
    command.add_argument("--rank-of", type=json.loads, metavar="NODE", help="compute a node as one of its ranks")
    command.add_argument("--only", type=int, help="0, the only node: a task starts its ranks with it")
    return command


def main(
    arguments: Sequence[str],
    command: Sequence[str] = COMMAND,
    copying: Callable[[Store], Copying] = lambda _store: not_copied,
) -> int:
    """Compute nodes as a lane, or one node as one of the ranks that a lane starts; return the exit code.

    command: how this process was started, without its arguments. copying: returns, for a store, what copies its cells
    while they are computed.
    """
    import dae_ssl.training.methods  # noqa: F401  (registers every method)

    given = parser().parse_args(arguments)
    sys.path += given.paths
    try:
        for module in given.imports:
            import_script(module) if Path(module).is_absolute() else importlib.import_module(module)
    except ConfigError as error:  # the same however often this process is started, so that no node is tried again
        return refuse(error) if given.rank_of is None else _bad_input(error)
    conditions = replace(Conditions.of(given.conditions), device=given.device)
    copied = copying(Store(conditions.store))
    die_with_parent()
    if given.rank_of is not None:
        return processes.run_here(_node(given.rank_of), conditions, Output(copying=copied))
    keep_to(given.gpu_share)
    return serve(conditions, lambda line: [*command, *arguments, f"--rank-of={line}"], copied)


def import_script(path: str) -> None:
    """Import the script that was started by the process that started this one, as `multiprocessing` does too."""
    spec = importlib.util.spec_from_file_location(SCRIPT, path)
    assert spec is not None
    assert spec.loader is not None
    sys.modules[SCRIPT] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(sys.modules[SCRIPT])


def require_outside() -> None:
    """Raise ConfigError in a lane that imports a script, where that script would start lanes itself, without end."""
    if SCRIPT in sys.modules:
        script = getattr(sys.modules[SCRIPT], "__file__", None) or "the script"
        raise ConfigError(f"{script} computes cells while it is imported by the processes that compute them: put what "
                          f"it does below `if __name__ == \"__main__\":`")  # fmt: skip


def keep_to(share: float) -> None:
    """Limit this process to a share of the GPU's memory, so that no lane can starve another."""
    if share < 1:
        import torch

        if torch.cuda.is_available():
            torch.cuda.set_per_process_memory_fraction(share)


def refuse(error: ConfigError) -> int:
    """Answer for every node that the standard input names that it cannot be computed, and why; return 0."""
    with _answers() as answers:
        for _line in sys.stdin:
            _say(answers, "ended", _bad_input(error))
    return 0


def serve(conditions: Conditions, ranks: Callable[[str], Sequence[str]], copying: Copying) -> int:
    """Compute the nodes that the standard input names until it ends; return 0.

    ranks: returns the command that starts the ranks of a node, given the line that names it.
    """
    with _answers() as answers, stop_requests() as request:
        output, memo = _output(answers, copying), processes.one_memo()
        for line in sys.stdin:
            stopped = 128 + request.number if request.number is not None else None
            code = stopped or _computed(line.strip(), conditions, ranks, output, memo)
            _free_memory()
            _say(answers, "ended", code)
    return 0


def _computed(
    line: str, conditions: Conditions, ranks: Callable[[str], Sequence[str]], output: Output, memo: Callable[[], "Memo"]
) -> int:
    try:
        task = Task(0, (_node(json.loads(line)),))
    except ConfigError as error:  # for example a method that only the process that asked for it knows
        return _bad_input(error)
    return processes.run(task, conditions, ranks(line), output, memo)


def _bad_input(error: ConfigError) -> int:
    print(f"error: {error}", file=sys.stderr, flush=True)
    return BAD_INPUT


def _node(named: Mapping[str, Any]) -> Node:
    return Node.of(named["settings"], named["stage"])


def _answers() -> TextIO:
    """Return the standard output for answers only: from now on libraries that print there write to standard error."""
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    return answers


def _say(answers: TextIO, *answer: object) -> None:
    answers.write(f"{json.dumps(answer)}\n")
    answers.flush()


def _output(answers: TextIO, copying: Copying) -> Output:
    last = ("", 0.0)

    def progress(what: str, done: int, total: int) -> None:
        nonlocal last
        now = time.monotonic()
        if what != last[0] or now - last[1] >= EVERY_SECONDS or done == total:
            last = (what, now)
            _say(answers, "progress", what, done, total)

    return Output(lambda line: _say(answers, "tell", line), progress, copying)


def _free_memory() -> None:
    """Free the GPU memory of the last node for the other lanes."""
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_initialized():
        gc.collect()
        torch.cuda.empty_cache()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
