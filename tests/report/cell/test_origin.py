"""Where a cell's scores come from, as its page says it: settings, nodes, deviations, and the command."""

from pathlib import Path

from dae_ssl import config
from dae_ssl.compute.command import run_again
from dae_ssl.compute.log import Log
from dae_ssl.report.cell.page import write_cell_page
from dae_ssl.store import Store
from tests.forged import Page, a_cell
from tests.report.cell.conftest import Drawn


def test_every_setting_is_shown_and_those_that_differ_are_marked(drawn: Drawn) -> None:
    page = drawn.page
    for name in config.flat(config.settings(drawn.cell)):
        assert [row for row in page.rows if row[0].strip() == name], name
    assert page.row("optimisation.epochs") == ["4 ", "differs: 300"]
    assert page.row("optimisation.batch_size") == ["512 ", "same"]
    assert page.raw.count('<tr class="differs">') == len([row for row in page.rows if "differs:" in row[-1]])
    assert "optimisation.epochs is 4; the study's default is 300." in page.text


def test_origin_of_every_stage_is_shown(drawn: Drawn) -> None:
    page, cell = drawn.page, drawn.cell
    assert [text.strip() for text in page.row("node")] == [config.key(cell, stage) for stage in cell.stages()]
    assert page.row("state") == ["done"] * 4
    assert page.row("host") == ["node & co"] * 4
    assert page.row("seconds worked") == ["12.5"] * 4
    assert page.row("SLURM") == ["slurm_job_id 17 "] * 4
    assert "Computed with uncommitted changes to the code: pretrain, features, probe, kmeans." in page.text


def test_command_of_the_page_is_that_of_the_cell_and_on_as_many_ranks(drawn: Drawn) -> None:
    assert run_again(drawn.cell) in drawn.page.text
    assert "replace dae-ssl by torchrun --standalone --nproc-per-node=2 -m jobs" in drawn.page.text
    assert "(dae-ssl data --help); --store FOLDER names the store." in drawn.page.text
    assert "python -m jobs" not in drawn.page.text


def test_interruption_is_told(tmp_path: Path) -> None:
    store, cell = Store(tmp_path), a_cell()
    node = store.node("pretrain", config.key(cell, "pretrain"))
    node.create()
    with Log(node.log) as log:
        log.event("started")
        log.event("stopped", error="Interrupted", reason="asked to by SIGTERM")
        log.event("started")
    page = Page(write_cell_page(cell, store, {}))
    assert "pretrain was started 2 times" in page.text
    assert "pretrain stopped: Interrupted, asked to by SIGTERM." in page.text
