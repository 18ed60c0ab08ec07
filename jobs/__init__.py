"""The commands, one file for each, and what they share; `jobs/__main__.py` starts them by name.

    experiment  from a command line to the cells of an experiment
    settings    one cell, composed with Hydra or without
    values      NAME=VALUE to a name and a plain value
    scales      settings that go together under a name
    flags       options of commands that Hydra does not read
    here        an experiment computed on this machine
    terminal    what a person who watches is shown

Each command is thin: what it computes stands in `dae_ssl`.
"""
