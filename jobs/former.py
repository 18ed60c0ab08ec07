"""How a command is written now that was written otherwise before: `python -m jobs.submit experiment=study lanes=2`.

There is no other way to say the same; what is written in the former way is answered with the present one.
"""

import os
import shlex
import sys
from collections.abc import Sequence

VERBS = {"prepare_data": "data", "run_cell": "run", "run_nodes": "compute", "sync_mlflow": "sync",
         "mlflow_server": "server"}  # fmt: skip
"""Commands that have another name now."""
KEPT = ("cancel", "check", "explain", "logs", "plan", "report", "results", "status", "submit", "versions")
"""Those that were modules to be started, `python -m jobs.NAME`, and have their name still."""
WORDS = ("experiment", "to", "folder")
"""Options that are words now, in this order."""
FLAGS = {"lanes": "parallel", "mlflow_experiment": "mlflow-experiment"} | {
    name: name for name in ("profile", "store", "scale", "variant", "seeds", "minutes", "archive", "only", "device",
                            "lines", "weights")
}  # fmt: skip
"""Options that are flags now, with a value."""
SWITCHES = {("floors", "false"): ["--no-floors"], ("floors", "true"): [], ("trial", "true"): ["--trial"],
            ("trial", "false"): [], ("weights", "true"): ["--weights"], ("weights", "false"): ["--no-weights"],
            ("mlflow_experiment", "null"): ["--no-mlflow"]}  # fmt: skip
"""Options that are flags now, without a value."""
GONE = ("--describe",)
"""What is not needed any more."""


def spelling(verb: str, arguments: Sequence[str]) -> str | None:
    """Return the present way to write a command of `dae-ssl`; None where it is written so already."""
    present = _present(verb, arguments)
    return None if present == [verb, *arguments] else f"dae-ssl {shlex.join(present)}"


def refuse(started: Sequence[str], seen: Sequence[str]) -> None:
    """End the process with one line where it was started as `python -m jobs.NAME`, NAME being a command.

    started: the whole command line of this process. seen: the same without Python's own options and the module.
    """
    package, _, name = started[len(started) - len(seen)].removeprefix("-m").partition(".")
    if package != "jobs" or name not in (*VERBS, *KEPT):
        return
    if os.environ.get("RANK", "0") == "0":
        under = "torchrun ... -m jobs" if "RANK" in os.environ else "dae-ssl"
        print(f"error: this is `{under} {shlex.join(_present(name, seen[1:]))}` now", file=sys.stderr)
    sys.exit(2)


def _present(verb: str, arguments: Sequence[str]) -> list[str]:
    """Return the words of a command as it is written now: its verb, what it acts on, settings and flags."""
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
    """Return arguments with the one former flag that is a word now as NAME=VALUE."""
    found = list[str]()
    for argument in arguments:
        if found and found[-1] == "--folder":
            found[-1] = f"folder={argument}"
        else:
            found.append(argument.replace("--folder=", "folder=", 1) if argument.startswith("--folder=") else argument)
    return found
