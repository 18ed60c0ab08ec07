"""Inside a lane: a process that is given one node after another on its standard input, and answers on its output.

It is given   {"stage": …, "key": …, "settings": …, "cell": …}      a node, and the key of a cell that needs it
it answers    ["tell", LINE]                                         for the person who watches
              ["progress", WHAT, DONE, TOTAL]                        ten times a second at most
              ["ended", CODE]                                        as processes.py has it: DONE, FAILED, …

all of it lines of JSON. Torch is imported and the GPU woken once, not once for each node. Asked to stop by a signal, it
saves what can be saved and answers 128 + signal; it ends with its input, or with the process that started it.
"""

import gc
import json
import os
import sys
import time
from collections.abc import Callable, Sequence
from typing import TextIO

from dae_ssl.compute import processes
from dae_ssl.compute.interrupt import die_with_parent, stop_requests
from dae_ssl.compute.nodes import Node, Task
from dae_ssl.compute.processes import Conditions, Copying, Output

EVERY_SECONDS = 0.1
"""How often progress is told at most."""


def serve(conditions: Conditions, ranks: Callable[[str], Sequence[str]], copying: Copying) -> int:
    """Compute the nodes that the standard input names until it ends; return 0.

    ranks: the command that a node's ranks are started with where it has several, for the key of its cell.
    """
    die_with_parent()
    with _answers() as answers, stop_requests() as request:
        output, memo = _output(answers, copying), processes.one_memo()
        for line in sys.stdin:
            given = json.loads(line)
            command = ranks(given.pop("cell"))
            stopped = 128 + request.number if request.number is not None else None
            task = Task(0, (Node.of(given["settings"], given["stage"]),))
            code = stopped or processes.run(task, conditions, command, output, memo)
            _free_memory()
            _say(answers, "ended", code)
    return 0


def _answers() -> TextIO:
    """Return a way to what was the standard output, on which libraries now print nothing: that goes where errors go."""
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
    """Give the GPU back what the last node took of it, for the other lanes."""
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_initialized():
        gc.collect()
        torch.cuda.empty_cache()
