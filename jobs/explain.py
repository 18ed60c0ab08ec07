"""Say which nodes a cell has, or why two cells' nodes differ.

  dae-ssl explain method=dae method.embedding=l2 method.alpha=1
  dae-ssl explain method=dae --and method=dae method.embedding=l1 method.alpha=1 seed=1
  dae-ssl explain 3f0c1d --and method=dae       a cell of the store, by the beginning of its key

--scale and --variant are of both cells.
"""

import argparse

from dae_ssl import config
from dae_ssl.config import Cell
from jobs import asked


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add a cell, and another to compare it with."""
    asked.add_cell(parser)
    parser.add_argument("--and", dest="other", nargs="+", metavar="NAME=VALUE", help="another cell: where they differ")


def run(given: argparse.Namespace) -> int:
    """Print the keys of one cell, or of two side by side with every setting that tells them apart."""
    cell = asked.cell(given)
    if given.other is not None:
        compare(cell, asked.one_cell(given.other, given))
        return 0
    print(f"{config.cell_key(cell)}  {config.title(cell)}")
    for stage in cell.stages():
        print(f"  {stage:9} {config.key(cell, stage)}")
    return 0


def compare(cell: Cell, other: Cell) -> None:
    """Print the keys of two cells side by side, and what tells them apart."""
    for stage in (stage for stage in cell.stages() if stage in other.stages()):
        keys = config.key(cell, stage), config.key(other, stage)
        print(f"{stage:9} {keys[0]} {'=' if keys[0] == keys[1] else '≠'} {keys[1]}")
        for name, here, there in config.differences(cell, other, stage):
            print(f"          {name}: {here} | {there}")
