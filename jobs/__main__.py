# PYTHON_ARGCOMPLETE_OK
"""The command `dae-ssl`, which is also `python -m jobs`: a verb, what it acts on, and its flags."""

import argparse
import importlib
import os
import sys
from collections.abc import Callable, Sequence

from dae_ssl import experiments
from dae_ssl.config import ConfigError, closest
from jobs import asked, former
from jobs.endings import ended, make_printable
from jobs.grammar import Parser

VERBS = {
    "data": "Prepare image sets: read once, checked, stored in one form.",
    "run": "Compute one cell and its floors, from images to a report page.",
    "plan": "Show what an experiment needs, lacks, and will cost.",
    "submit": "Compute what an experiment lacks, on SLURM or on this machine.",
    "status": "Show the state of an experiment's cells, and why nodes failed.",
    "report": "Draw the page of an experiment or of a cell, at any time.",
    "export": "Write a cell's encoder to a folder that stands by itself.",
    "logs": "Show what a cell's tasks printed and what its nodes logged.",
    "cancel": "Cancel what is queued or running for an experiment.",
    "explain": "Show a cell's keys, or the settings in which two cells differ.",
    "results": "Save measured scores to a file, or load them into a store.",
    "clean": "List what can be deleted from a store, and delete it.",
    "remove": "Remove cells, their pages, and nodes that no other cell needs.",
    "sync": "Copy the cells of a store to MLflow.",
    "check": "Check a profile, and the images and disk of an experiment.",
    "server": "Start an MLflow tracking server for a group.",
    "versions": "Print the versions that results depend on.",
    "compute": "Compute the nodes of cells, as the task of a job does.",
}
"""Every verb with the first line of its module jobs/VERB.py, which is imported only when the verb is used."""
DESCRIPTION = """\
A word names what a command acts on, a --flag says what it does, and name=value is a setting of cells, in any order.

  dae-ssl data photographs                                 dae-ssl run method=dae method.alpha=1 --scale demo
  dae-ssl plan study --profile gpu4                        dae-ssl submit study --profile gpu4 optimisation.epochs=2
  dae-ssl status study --watch                             dae-ssl report study --scale small
"""


def parser(verb: str | None = None) -> tuple[Parser, Parser]:
    """Return the parser of the whole command, with the arguments of one verb, and the parser of that verb."""
    whole = Parser(prog="dae-ssl", description=DESCRIPTION)
    verbs = whole.add_subparsers(title="verbs", metavar="VERB", dest="verb")
    parsers = {name: verbs.add_parser(name, help=line, prog=f"dae-ssl {name}") for name, line in VERBS.items()}
    chosen = parsers.get(verb or "")
    if verb is None or chosen is None:
        return whole, whole
    module = importlib.import_module(f"jobs.{verb}")
    chosen.description = module.__doc__
    module.add_arguments(chosen)
    for leaf in chosen.leaves():
        leaf.usage = leaf.usage or f"{leaf.prog} [--FLAG ...]"
        asked.add_store(leaf)
        leaf.set_defaults(act=module.run)
    return whole, chosen


def run(arguments: Sequence[str]) -> int:
    """Run a command line and return its exit code. Raises the errors that `endings.ended` explains."""
    if not arguments or arguments[0] in ("-h", "--help"):
        parser()[0].print_help()
        return 0
    verb, *further = arguments
    if now := former.spelling(verb, further):
        raise ConfigError(f"this command has changed: write `{now}`")
    if verb in experiments.names():
        raise ConfigError(f"{verb} is an experiment, not a verb: write a verb before it, such as dae-ssl plan {verb}")
    if verb not in VERBS:
        raise ConfigError(f"unknown verb {verb or repr(verb)}: {closest(verb, VERBS)}choose {', '.join(VERBS)}")
    given = parser(verb)[1].read(further)
    given.arguments = further
    asked.require_folder(given.store)
    import dae_ssl.training.methods  # noqa: F401  (registers every method)

    act: Callable[[argparse.Namespace], int] = given.act
    return act(given)


def complete() -> None:
    """Answer a shell that asks for completions, if argcomplete is installed; otherwise do nothing."""
    if "_ARGCOMPLETE" not in os.environ:
        return
    try:
        import argcomplete
    except ModuleNotFoundError:
        sys.exit(1)
    words = os.environ.get("COMP_LINE", "").split()
    verb = next((word for word in words if word in VERBS), None)
    argcomplete.autocomplete(parser(verb)[0], always_complete_options=False)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command line, by default that of this process; print one line on any error and return the exit code."""
    complete()
    make_printable()
    try:
        code = run(sys.argv[1:] if arguments is None else arguments)
        sys.stdout.flush()
        return code
    except (Exception, KeyboardInterrupt) as error:
        return ended(error)


if __name__ == "__main__":
    sys.exit(main())
