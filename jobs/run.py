"""Compute one cell and its floors, from images to a report page.

  dae-ssl run method=dae method.embedding=l2 method.alpha=1 seed=1
  torchrun --standalone --nproc-per-node=4 -m jobs run method=simclr precision=bf16
  dae-ssl run method=ae --variant published_code
  dae-ssl run method=dae --cfg job                                          show every setting, compute nothing
  dae-ssl run --multirun method=dae seed=1,2,3                              one cell after another
  dae-ssl run --multirun method=dae seed=1,2,3 --profile gpu4               as an array of SLURM, a task for each

Whatever is in the store already is not computed again; an interrupted cell goes on where it stopped. Hydra composes the
settings, so that its own words work too: hydra.sweeper.max_batch_size=10, hydra.launcher.look_seconds=5.
"""

import argparse
import contextlib
import os
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dae_ssl import config
from dae_ssl.compute import cells
from dae_ssl.compute.command import quoted
from dae_ssl.compute.processes import FAILED
from dae_ssl.config import Cell, ConfigError
from dae_ssl.planning.profile import DEVICES
from dae_ssl.store import Store
from jobs import asked, grammar, scales, settings
from jobs.endings import ended, fail

if TYPE_CHECKING:
    from omegaconf import DictConfig

    from jobs.terminal import Terminal

CONFIG = Path(__file__).parent / "conf"
CONDITIONS = ("store", "device", "floors", "mlflow_experiment")
"""What `conf/run.yaml` adds: where a cell runs, which is no part of it. On the command line these are flags."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the settings of a cell, where and how it is computed, and what Hydra is asked for."""
    asked.add_words(parser, "NAME=VALUE...", "settings of the cell; with --multirun several values, with commas",
                    lambda: asked.setting_words(settings.PARTS))  # fmt: skip
    for group, options in scales.GROUPS.items():
        asked.completed(parser.add_argument(f"--{group}", metavar="NAME", help=", ".join(options)), options.keys)
    parser.add_argument("--device", type=grammar.one_of(DEVICES), metavar="NAME", help=f"{', '.join(DEVICES)} (auto)")
    parser.add_argument("--no-floors", dest="floors", action="store_false",
                        help="leave out the random encoder and the raw pixels")  # fmt: skip
    asked.add_mlflow_experiment(parser)
    parser.add_argument("--no-mlflow", action="store_true", help="copy nothing to MLflow; `dae-ssl sync` does so later")
    hydra = parser.add_argument_group("Hydra's")
    hydra.add_argument("-m", "--multirun", action="store_true", help="a cell for each combination of values")
    asked.add_profile(hydra, help="with --multirun: send the cells to SLURM on the terms of a profile")
    hydra.add_argument("-c", "--cfg", type=grammar.one_of(("job", "hydra", "all")), metavar="WHAT",
                       help="show every setting and compute nothing: job, hydra or all")  # fmt: skip
    hydra.add_argument("--resolve", action="store_true", help="with --cfg: with references resolved")
    hydra.add_argument("--info", nargs="?", const="all", metavar="WHAT", help="what Hydra knows of itself")


def run(given: argparse.Namespace) -> int:
    """Refuse misspelt settings in one line, then hand over to Hydra; return the exit code."""
    import hydra

    words, looks = overrides(given), [name for name in ("cfg", "info") if vars(given)[name]]
    if len(looks) + given.multirun > 1:
        raise ConfigError("--cfg, --info and --multirun exclude one another: choose one")
    if given.info is None:
        check([word for word in words if word.partition("=")[0] not in CONDITIONS], several=given.multirun)
    settings.register()
    options = [*(["--multirun"] if given.multirun else []), *(["--resolve"] if given.resolve else []),
               *(f"--{name}={vars(given)[name]}" for name in looks)]  # fmt: skip
    sys.argv = ["dae-ssl run", *options, *words]  # which is where Hydra reads them
    hydra.main(version_base="1.3", config_path=str(CONFIG), config_name="run")(composed)()
    return 0


def overrides(given: argparse.Namespace) -> list[str]:
    """Return the words of the command line and its flags as Hydra takes them. Raises ConfigError for what cannot be."""
    chosen = {f"+{group}": vars(given)[group] for group in scales.GROUPS} | {"device": given.device}
    if str(given.store) != os.environ.get("DAE_SSL_STORE", "store"):
        chosen["store"] = quoted(str(given.store))
    if not given.floors:
        chosen["floors"] = "false"
    if given.no_mlflow:
        chosen["mlflow_experiment"] = "null"
    elif given.mlflow_experiment != cells.MLFLOW_EXPERIMENT:
        chosen["mlflow_experiment"] = quoted(given.mlflow_experiment)
    if given.profile is not None:
        config.require(given.multirun, "--profile", given.profile, "it with --multirun, which sends cells to SLURM")
        chosen |= {"hydra/launcher": "slurm", "hydra.launcher.profile": quoted(given.profile)}
    return [*given.words, *(f"{name}={value}" for name, value in chosen.items() if value is not None)]


def check(words: Sequence[str], *, several: bool) -> None:
    """Raise ConfigError for a word that names no setting, or has several values where it may not.

    Hydra would refuse it too, but in many lines and without the choices.
    """
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.errors import OverrideParseException

    try:
        parsed = OverridesParser.create().parse_overrides(list(words))
    except OverrideParseException as error:
        raise ConfigError(f"{error.override!r} cannot be parsed: write NAME=VALUE, such as method.alpha=1") from error
    for override in parsed:
        if override.is_sweep_override() and not several:
            told = "--multirun computes a cell for each, and [1,2] is a list"
            raise ConfigError(f"{override.input_line} has more than one value: {told}")
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


# ---------------------------------------------------------------------------------- one composed configuration


def composed(given: "DictConfig") -> None:
    """Compute the cell of a composed configuration, and end the process where that cannot be done.

    Its exit code is 2 for bad input, 1 where the cell diverged, 128 + signal where it was stopped.
    """
    from omegaconf import OmegaConf

    import dae_ssl.training.methods  # noqa: F401  (registers every method, also in a task that was sent this function)
    from dae_ssl.compute.interrupt import Stopped
    from dae_ssl.data import prepared
    from dae_ssl.training.pretrain import Diverged

    try:
        plain: Any = OmegaConf.to_container(given, resolve=True)
        cell, store = settings.cell(plain), Store(Path(given.store))
        prepared.require_fits(store, cell)
        compute(cell, store, given)
    except Diverged as error:
        sys.exit(fail(error, FAILED))
    except Stopped as stopped:
        if os.environ.get("RANK", "0") == "0":
            print(f"{stopped}: the same command continues", file=sys.stderr)
        sys.exit(stopped.code)
    except (Exception, KeyboardInterrupt) as error:
        sys.exit(ended(error))


def compute(cell: Cell, store: Store, given: "DictConfig") -> None:
    """Pretrain on all ranks; the first goes on alone, evaluates the cell and its floors, and draws the page."""
    from dae_ssl.compute import life
    from dae_ssl.compute.stages import Context
    from dae_ssl.data import sets
    from dae_ssl.distributed import World, world
    from dae_ssl.tracking import copying, runs, server
    from jobs.terminal import Terminal

    first = os.environ.get("RANK", "0") == "0"
    beside = cells.floors(cell) if given.floors else {}
    uri = server.tracking_uri(store.root) if given.mlflow_experiment else None
    shown = {"this cell": cell} | beside
    with contextlib.ExitStack() as stack:
        stages = sum(len(each.stages()) for each in shown.values())
        terminal = stack.enter_context(Terminal(stages, silent=not first))
        if first:
            folder = cells.describe(cell, store)
            terminal.tell(f"cell {folder.key}: {config.title(cell)}")
            if uri is not None:
                stack.enter_context(runs.live(cell, store, uri, given.mlflow_experiment, terminal.tell))
        memo = sets.Memo()
        # The ranks part together here: a process group is no place to wait in while one evaluates.
        with world(given.device) as ranks:
            if cell.method.trains:
                _begin(terminal, "this cell", cell, store, "pretrain")
                context = Context(store, ranks, tell=terminal.tell, progress=terminal.progress, memo=memo)
                life.pretrain(cell, context)
        if not first:
            return
        alone = World(0, 1, ranks.device)
        context = Context(store, alone, tell=terminal.tell, progress=terminal.progress, memo=memo)
        for words, each in shown.items():
            cells.describe(each, store)
            life.evaluate(each, context, begin=partial(_begin, terminal, words, each, store))
        # What draws takes seconds to import, and only one rank draws.
        from dae_ssl.report.cell.page import write_cell_page

        page = write_cell_page(cell, store, beside)
    with contextlib.suppress(server.TrackError):  # told of already, by the cell's own copy
        for floor in beside.values() if uri is not None else ():
            assert uri is not None
            copying.copy(runs.cell_run(floor, store, given.mlflow_experiment), uri)
    _summary(shown, store, page, uri, given.mlflow_experiment)


def _begin(terminal: "Terminal", words: str, cell: Cell, store: Store, stage: str) -> None:
    terminal.begin(stage, words, done=stage in cells.current_records(cell, store))


def _summary(shown: dict[str, Cell], store: Store, page: Path, uri: str | None, experiment: str) -> None:
    """Print what came of the cell beside its floors, where the report is, and where MLflow shows the cell."""
    from dae_ssl.report.cell.closing import closing
    from dae_ssl.report.findings import Findings
    from dae_ssl.tracking import server

    findings, *floors = (Findings(words, each, store) for words, each in shown.items())
    print("", *closing(findings, floors), "", f"report: {page.resolve()}", sep="\n")
    with contextlib.suppress(server.TrackError):
        if uri is not None:
            opened = server.prepare(uri, experiment)
            if uri.startswith("sqlite:"):
                print(f"MLflow: run {Path(sys.executable).with_name('mlflow')} ui --backend-store-uri {uri}")
                print(f"MLflow: then open {opened}")
            else:
                print(f"MLflow: {opened}")
