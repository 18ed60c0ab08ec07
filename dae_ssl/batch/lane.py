"""Inside a lane: a process that is given one node after another on its standard input, and answers on its output.

It is given   {"stage": …, "key": …, "settings": …, "cell": …}      a node, and the key of a cell that needs it
it answers    ["tell", LINE]                                         for the person who watches
              ["progress", WHAT, DONE, TOTAL]                        ten times a second at most
              ["ended", CODE]                                        as tasks.py has it: DONE, FAILED, …

all of it lines of JSON. Torch is imported and the GPU woken once, not once for each node. Asked to stop by a signal, it
saves what can be saved and answers 128 + signal; it ends with its input, or with the process that started it.
"""

import gc
import json
import os
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TextIO

from dae_ssl.batch import tasks
from dae_ssl.batch.interrupt import die_with_parent, stop_requests
from dae_ssl.batch.tasks import Item, Told, Work

EVERY_SECONDS = 0.1
"""How often progress is told at most."""


def serve(work: Work, ranks: Callable[[str], Sequence[str]]) -> int:
    """Compute the nodes that the standard input names until it ends; return 0.

    work: all but the nodes. ranks: the command that a node's ranks are started with where it has several, for the key
    of its cell.
    """
    die_with_parent()
    with _answers() as answers, stop_requests() as request:
        told, memo = _told(answers), tasks.one_memo()
        for line in sys.stdin:
            given = json.loads(line)
            command = ranks(given.pop("cell"))
            stopped = 128 + request.number if request.number is not None else None
            code = stopped or tasks.run(replace(work, items=(Item(**given),)), command, told, memo)
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


def _told(answers: TextIO) -> Told:
    last = ("", 0.0)

    def progress(what: str, done: int, total: int) -> None:
        nonlocal last
        now = time.monotonic()
        if what != last[0] or now - last[1] >= EVERY_SECONDS or done == total:
            last = (what, now)
            _say(answers, "progress", what, done, total)

    return Told(lambda line: _say(answers, "tell", line), progress)


def _free_memory() -> None:
    """Give the GPU back what the last node took of it, for the other lanes."""
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_initialized():
        gc.collect()
        torch.cuda.empty_cache()
