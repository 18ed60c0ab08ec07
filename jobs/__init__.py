"""The commands, one file for each verb of `dae-ssl`, and what they share; `jobs/__main__.py` lists the verbs.

    grammar     how a command line is read: words, --flags and name=value, in any order
    asked       from a command line to the cells of an experiment, or to one
    settings    one cell, composed with Hydra or without
    values      NAME=VALUE to a name and a plain value
    scales      settings that go together under a name
    profiles    what a cluster looks like, by its name
    endings     how a command ends that cannot go on
    former      how a command is written now that was written otherwise before
    board       the table of `dae-ssl status`, as it stands or as it goes on
    here        an experiment computed on this machine
    terminal    what a person who watches is shown

Each command is thin: what it computes stands in `dae_ssl`.
"""

import sys

if sys.argv[:1] == ["-m"]:  # Python is about to run `python -m MODULE`, and has imported its package only
    from jobs import former

    former.refuse(sys.orig_argv, sys.argv)
