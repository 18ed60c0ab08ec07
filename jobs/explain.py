"""Show a cell's keys, or the settings in which two cells differ.

  dae-ssl explain method=dae method.embedding=l2 method.alpha=1
  dae-ssl explain method=dae --and method=dae method.embedding=l1 method.alpha=1 seed=1
  dae-ssl explain 3f0c1d --and method=dae       a cell of the store, given the first characters of its key

--scale and --variant apply to both cells.
"""

import argparse

from dae_ssl import config
from dae_ssl.config import Cell
from jobs import asked


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add a cell, and another one to compare it with."""
    asked.add_cell(parser)
    parser.add_argument("--and", dest="other", nargs="+", metavar="NAME=VALUE",
                        help="key or settings of another cell, with which the first one is compared")  # fmt: skip


def run(given: argparse.Namespace) -> int:
    """Print the keys of one cell, or those of two cells with every setting in which they differ."""
    cell = asked.cell(given)
    if given.other is not None:
        compare(cell, asked.one_cell(given.other, given))
        return 0
    print(f"{config.cell_key(cell)}  {config.title(cell)}")
    for stage in cell.stages():
        print(f"  {stage:9} {config.key(cell, stage)}")
    return 0


def compare(cell: Cell, other: Cell) -> None:
    """Print the keys of two cells side by side, and the settings in which they differ."""
    for stage in (stage for stage in cell.stages() if stage in other.stages()):
        keys = config.key(cell, stage), config.key(other, stage)
        print(f"{stage:9} {keys[0]} {'=' if keys[0] == keys[1] else '≠'} {keys[1]}")
        for name, value, other_value in config.differences(cell, other, stage):
            print(f"          {name}: {value} | {other_value}")
