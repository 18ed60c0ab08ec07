"""Answer a command of an earlier version, such as `python -m jobs.submit experiment=study lanes=2`, with its new form.

The former commands are not executed.
"""

import os
import shlex
import sys
from collections.abc import Sequence

VERBS = {"prepare_data": "data", "run_cell": "run", "run_nodes": "compute", "sync_mlflow": "sync",
         "mlflow_server": "server"}  # fmt: skip
"""The commands that have a new name."""
KEPT = ("cancel", "check", "explain", "logs", "plan", "report", "results", "status", "submit", "versions")
"""The commands that were started as `python -m jobs.NAME` and still have their name."""
WORDS = ("experiment", "to", "folder")
"""The options that have become words, in this order."""
FLAGS = {"lanes": "parallel", "mlflow_experiment": "mlflow-experiment"} | {
    name: name for name in ("profile", "store", "scale", "variant", "seeds", "minutes", "archive", "only", "device",
                            "lines", "weights")
}  # fmt: skip
"""The options that have become flags with a value."""
SWITCHES = {("floors", "false"): ["--no-floors"], ("floors", "true"): [], ("trial", "true"): ["--trial"],
            ("trial", "false"): [], ("weights", "true"): ["--weights"], ("weights", "false"): ["--no-weights"],
            ("mlflow_experiment", "null"): ["--no-mlflow"]}  # fmt: skip
"""The options that have become flags without a value."""
GONE = ("--describe",)
"""The flags that are no longer needed."""


def spelling(verb: str, arguments: Sequence[str]) -> str | None:
    """Return the new form of a command of `dae-ssl`, or None if it has that form already."""
    present = _present(verb, arguments)
    return None if present == [verb, *arguments] else f"dae-ssl {shlex.join(present)}"


def refuse(started: Sequence[str], seen: Sequence[str]) -> None:
    """End the process with one line if it was started as `python -m jobs.NAME`, where NAME is a command.

    started: the whole command line of this process. seen: the same without Python's own options and the module.
    """
    package, _, name = started[len(started) - len(seen)].removeprefix("-m").partition(".")
    if package != "jobs" or name not in (*VERBS, *KEPT):
        return
    if os.environ.get("RANK", "0") == "0":
        under = "torchrun ... -m jobs" if "RANK" in os.environ else "dae-ssl"
        now = f"{under} {shlex.join(_present(name, seen[1:]))}"
        print(f"error: this command has changed: write `{now}`", file=sys.stderr)
    sys.exit(2)


def _present(verb: str, arguments: Sequence[str]) -> list[str]:
    """Return the words of a command in its new form: the verb, what it acts on, settings and flags."""
    kind, words, further = list[str](), dict[str, str](), list[str]()
    for argument in _joined(arguments) if VERBS.get(verb, verb) == "server" else arguments:
        name, equals, value = argument.partition("=")
        name = name.lstrip("+")
        if verb == "results" and argument in ("save", "load"):
            kind.append(argument)
        elif name in WORDS and equals:
            words[name] = value
        elif (name, value) in SWITCHES:
            further += SWITCHES[name, value]
        elif name in FLAGS and equals:
            listed = value.strip("[]").replace(" ", "") if name in ("seeds", "only") else value
            further += [f"--{FLAGS[name]}", listed]
        elif argument not in GONE:
            further.append(argument)
    return [VERBS.get(verb, verb), *kind, *(words[name] for name in WORDS if name in words), *further]


def _joined(arguments: Sequence[str]) -> list[str]:
    """Return the arguments with the former flag `--folder`, which has become a word, as NAME=VALUE."""
    joined = list[str]()
    for argument in arguments:
        if joined and joined[-1] == "--folder":
            joined[-1] = f"folder={argument}"
        else:
            joined.append(argument.replace("--folder=", "folder=", 1) if argument.startswith("--folder=") else argument)
    return joined
