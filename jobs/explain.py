"""Say which nodes a cell has, or why two cells' nodes differ.

python -m jobs.explain method=dae method.embedding=l2 method.alpha=1
python -m jobs.explain method=dae method.alpha=0 --and method=dae method.embedding=l1 seed=1
python -m jobs.explain method=simclr store=store --describe        also in the store, for slurm/cell.sbatch
"""

import sys
from pathlib import Path

import dae_ssl.training.methods  # noqa: F401  (registers every method)
from dae_ssl import config
from dae_ssl.compute import cells
from dae_ssl.config import ConfigError
from dae_ssl.files import StoreError
from dae_ssl.store import Store
from jobs import settings


def main(arguments: list[str]) -> None:
    """Print the keys of one cell, or of two side by side with every setting that tells them apart."""
    if not arguments or "-h" in arguments or "--help" in arguments:
        print(__doc__)
        return
    try:
        if "--and" not in arguments:
            given = settings.compose([argument for argument in arguments if argument != "--describe"])
            one = settings.cell(given)
            if "--describe" in arguments:
                cells.describe(one, Store(Path(given["store"])))
            print(f"{config.cell_key(one)}  {config.title(one)}")
            for stage in one.stages():
                print(f"  {stage:9} {config.key(one, stage)}")
            return
        middle = arguments.index("--and")
        one, other = (settings.cell(settings.compose(part)) for part in (arguments[:middle], arguments[middle + 1 :]))
    except (ConfigError, StoreError) as error:
        settings.fail(error, 2)
        return
    for stage in (stage for stage in one.stages() if stage in other.stages()):
        keys = config.key(one, stage), config.key(other, stage)
        print(f"{stage:9} {keys[0]} {'=' if keys[0] == keys[1] else '≠'} {keys[1]}")
        for name, mine, theirs in config.differences(one, other, stage):
            print(f"          {name}: {mine} | {theirs}")


if __name__ == "__main__":
    main(sys.argv[1:])
