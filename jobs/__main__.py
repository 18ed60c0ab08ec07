# PYTHON_ARGCOMPLETE_OK
"""The command `dae-ssl`, which is `python -m jobs` too: a verb, what it acts on, and how."""

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
    "plan": "Say what an experiment needs, has, would send and would cost.",
    "submit": "Compute what an experiment lacks, on SLURM or on this machine.",
    "status": "Show how far an experiment is, and why what failed did.",
    "report": "Draw the page of an experiment or of a cell, at any time.",
    "export": "Write a cell's encoder to a folder that stands by itself.",
    "logs": "Show what a cell's tasks printed and what its nodes logged.",
    "cancel": "Cancel what is queued or running for an experiment.",
    "explain": "Say which nodes a cell has, or why two cells' nodes differ.",
    "results": "Save what was measured to a file of numbers, or load it.",
    "clean": "Say what a store can be freed of, and free it.",
    "remove": "Remove cells, their pages and the nodes that are theirs alone.",
    "sync": "Copy to MLflow whatever it lacks of the cells in a store.",
    "check": "Tell what will not work before anything is queued.",
    "server": "Start a group's tracking server: MLflow before a database.",
    "versions": "Print the versions that results depend on.",
    "compute": "Compute nodes of cells, as a task of a job does.",
}
"""Every verb with the first line of its module, jobs/VERB.py, which is imported when the verb is asked for."""
DESCRIPTION = """\
What a command acts on is a word, what it does is a --flag, what a cell is, is name=value; in any order.

  dae-ssl data digits                                      dae-ssl run method=dae method.alpha=1 --scale demo
  dae-ssl plan study --profile gpu4                        dae-ssl submit study --profile gpu4 optimisation.epochs=2
  dae-ssl status study --watch                             dae-ssl report study --scale small
"""


def parser(verb: str | None = None) -> tuple[Parser, Parser]:
    """Return the parser of the whole command, in which one verb knows its arguments, and the parser of that verb."""
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
    """Do what a command line says and return the exit code. Raises what `endings.ended` explains."""
    if not arguments or arguments[0] in ("-h", "--help"):
        parser()[0].print_help()
        return 0
    verb, *further = arguments
    if now := former.spelling(verb, further):
        raise ConfigError(f"this is `{now}` now")
    if verb in experiments.names():
        raise ConfigError(f"{verb} is an experiment: say first what to do with it, as in dae-ssl plan {verb}")
    if verb not in VERBS:
        raise ConfigError(f"unknown verb {verb or repr(verb)}: {closest(verb, VERBS)}choose {', '.join(VERBS)}")
    given = parser(verb)[1].read(further)
    given.arguments = further
    asked.require_folder(given.store)
    import dae_ssl.training.methods  # noqa: F401  (registers every method)

    act: Callable[[argparse.Namespace], int] = given.act
    return act(given)


def complete() -> None:
    """Answer a shell that asks what may follow, where argcomplete is installed; else do nothing."""
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
    """Run a command line, this process's if none is given; return its exit code, after a line on what went wrong."""
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
