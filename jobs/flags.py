"""The options of commands that Hydra does not read: `store=FOLDER`, as everywhere, or `--store FOLDER`."""

import argparse
import os
from collections.abc import Sequence
from pathlib import Path


def add_store(parser: argparse.ArgumentParser) -> None:
    """Let a command be told its store; without that it is the environment's, or the one in the current folder."""
    default = Path(os.environ.get("DAE_SSL_STORE", "store"))
    parser.add_argument("--store", type=Path, default=default, help=f"$DAE_SSL_STORE or ./store; now {default}")


def parsed(parser: argparse.ArgumentParser, arguments: Sequence[str], *names: str) -> argparse.Namespace:
    """Return what a command was told, where `names` are the options that may also be written NAME=VALUE."""

    def flag(argument: str) -> str:
        name, equals, value = argument.partition("=")
        return f"--{name.replace('_', '-')}={value}" if equals and name in names else argument

    return parser.parse_args([flag(argument) for argument in arguments])
