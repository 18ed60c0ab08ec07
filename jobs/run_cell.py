"""Compute one cell and the floors it must beat, from prepared images to a tracked result and its report page.

    python -m jobs.run_cell method=dae method.embedding=l2 method.alpha=1 seed=1
    torchrun --standalone --nproc-per-node=4 -m jobs.run_cell method=simclr precision=bf16
    python -m jobs.run_cell method=ae +variant=published_code
    python -m jobs.run_cell method=dae --cfg job        show every setting, compute nothing
    python -m jobs.run_cell --multirun method=dae seed=1,2,3                  one cell after another
    python -m jobs.run_cell --multirun method=dae seed=1,2,3 hydra/launcher=slurm hydra.launcher.profile=gpu4

Whatever is in the store already is not computed again; an interrupted cell goes on where it stopped.
"""

import contextlib
import os
import signal
import sys
from pathlib import Path
from typing import Any

from jobs import scales, settings

try:
    import hydra
    from hydra._internal.utils import get_args_parser  # the parser that hydra.main reads the command line with
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.errors import OverrideParseException
    from omegaconf import DictConfig, OmegaConf
except ModuleNotFoundError as absent:
    settings.fail_without(absent)

import dae_ssl.training.methods  # noqa: F401  (registers every method)
from dae_ssl import config
from dae_ssl.compute import cells, life
from dae_ssl.compute.interrupt import Stopped
from dae_ssl.compute.stages import Context
from dae_ssl.config import Cell, ConfigError
from dae_ssl.data import prepared, sets
from dae_ssl.distributed import World, world
from dae_ssl.files import StoreError
from dae_ssl.store import Store
from dae_ssl.tracking import copying, runs, server
from dae_ssl.training.pretrain import Diverged
from jobs.terminal import Terminal


@hydra.main(version_base="1.3", config_path="conf", config_name="run_cell")
def main(given: DictConfig) -> None:
    """Run the cell of a composed configuration; exit 2 for bad input, 1 when it diverged, 128 + signal when stopped."""
    try:
        plain: Any = OmegaConf.to_container(given, resolve=True)
        cell, store = settings.cell(plain), Store(Path(given.store))
        prepared.require_fits(store, cell)
        run(cell, store, given)
    except (ConfigError, StoreError) as error:
        settings.fail(error, 2)
    except Diverged as error:
        settings.fail(error, 1)
    except Stopped as stopped:
        if os.environ.get("RANK", "0") == "0":
            print(f"{stopped}: the same command continues", file=sys.stderr)
        sys.exit(stopped.code)
    except KeyboardInterrupt:
        settings.fail("interrupted: the same command continues", 128 + signal.SIGINT)


def run(cell: Cell, store: Store, given: DictConfig) -> None:
    """Pretrain on all ranks; the first goes on alone, evaluates the cell and its floors, and draws the page."""
    first = os.environ.get("RANK", "0") == "0"
    beside = cells.floors(cell) if given.floors else {}
    uri = server.tracking_uri(store.root) if given.mlflow_experiment else None
    with contextlib.ExitStack() as stack:
        terminal = stack.enter_context(Terminal(silent=not first))
        if first:
            folder = cells.describe(cell, store)
            terminal.tell(f"cell {folder.key}: {config.title(cell)}")
            if uri is not None:
                stack.enter_context(runs.live(cell, store, uri, given.mlflow_experiment, terminal.tell))
        memo = sets.Memo()
        # The ranks part together here: a process group is no place to wait in while one evaluates.
        with world(given.device) as ranks:
            if cell.method.trains:
                context = Context(store, ranks, tell=terminal.tell, progress=terminal.progress, memo=memo)
                life.pretrain(cell, context)
        if not first:
            return
        alone = World(0, 1, ranks.device)
        context = Context(store, alone, tell=terminal.tell, progress=terminal.progress, memo=memo)
        for words, shown in {"": cell, **beside}.items():
            if words:
                terminal.tell(f"floor: {words}")
                cells.describe(shown, store)
            life.evaluate(shown, context)
        from dae_ssl.report.page import write_cell_page  # what draws takes seconds to import, and only one rank draws

        page = write_cell_page(cell, store, beside)
    with contextlib.suppress(server.TrackError):  # told of already, by the cell's own copy
        for floor in beside.values() if uri is not None else ():
            copying.copy(runs.cell_run(floor, store, given.mlflow_experiment), uri)
    _summary({"this cell": cell} | beside, store, page, uri, given.mlflow_experiment)


def _summary(shown: dict[str, Cell], store: Store, page: Path, uri: str | None, experiment: str) -> None:
    """Print accuracy beside the floors, where the report is, and where MLflow shows the cell."""
    cell = next(iter(shown.values()))
    print(f"\n{f'{cell.data.evaluate} test, top-1 %':24}{'probe':>8}{'L-BFGS':>8}{'k-means':>9}")
    for words, one in shown.items():
        figures = cells.scores(one, store)
        names = ("test_accuracy", "logistic_test_accuracy", "kmeans_matched_accuracy")
        probe, logistic, kmeans = (100 * figures[name] for name in names)
        print(f"{words[:24]:24}{probe:8.2f}{logistic:8.2f}{kmeans:9.2f}")
    print(f"\nreport: {page.resolve()}")
    with contextlib.suppress(server.TrackError):
        if uri is not None:
            opened = server.prepare(uri, experiment)
            if uri.startswith("sqlite:"):
                print(f"MLflow: {Path(sys.executable).with_name('mlflow')} ui --backend-store-uri {uri}")
            print(f"MLflow: {opened}")


def check(overrides: list[str]) -> None:
    """Raise ConfigError for an override that names no setting.

    Hydra would refuse it too, but in many lines and without the choices.
    """
    try:
        parsed = OverridesParser.create().parse_overrides(overrides)
    except OverrideParseException as error:
        raise ConfigError(f"{error.override!r} is not understood: write NAME=VALUE, as in method.alpha=1") from error
    for override in parsed:
        for name in _swept(override) if override.key_or_group in scales.GROUPS else ():
            scales.chosen(override.key_or_group, name)
    own = [override for override in parsed if not _is_for_hydra(override.key_or_group)]
    methods = [name for override in own if override.key_or_group == "method" for name in _swept(override)]
    settings.check([override.key_or_group for override in own], methods)


def _is_for_hydra(name: str) -> bool:
    return name in scales.GROUPS or name.replace("/", ".").split(".", maxsplit=1)[0] == "hydra"


def _swept(override: Any) -> list[Any]:
    value = override.value()
    return list(value.list) if override.is_sweep_override() and hasattr(value, "list") else [value]


def entry() -> None:
    """Refuse misspelt settings in one line, then hand over to Hydra."""
    settings.register()
    asked = get_args_parser().parse_known_args()[0]
    if not (asked.help or asked.hydra_help or asked.info):
        try:
            check(asked.overrides)
        except ConfigError as error:
            settings.fail(error, 2)
    main()


if __name__ == "__main__":
    entry()
