"""The commands, one file for each verb of `dae-ssl`, and what they share; `jobs/__main__.py` lists the verbs.

    grammar     reads a command line: words, --flags and name=value, in any order
    asked       turns a command line into the cells of an experiment, or into one cell
    settings    composes the settings of one cell, with or without Hydra
    values      turns NAME=VALUE into a name and a plain value
    scales      names groups of settings
    profiles    finds the profile of a cluster by its name
    endings     ends a command that cannot continue
    former      names the present form of commands from earlier versions
    board       prints the table of `dae-ssl status`, once or again and again
    here        computes an experiment on this machine
    terminal    shows the progress of a run on a terminal

Each command is thin: the package `dae_ssl` does the work.
"""

import sys

if sys.argv[:1] == ["-m"]:  # Python is about to run `python -m MODULE` and has imported only the package so far
    from jobs import former

    former.refuse(sys.orig_argv, sys.argv)
