"""The pages of docs/reference are those that the code gives, and nothing that the code has is missing on them."""

import ast
import difflib
from dataclasses import dataclass, fields
from pathlib import Path

import pytest

import dae_ssl
import dae_ssl.training.methods
import jobs.__main__
from dae_ssl import config, experiments
from dae_ssl.config import Cell, Method
from dae_ssl.planning.profile import Profile
from dae_ssl.training.losses import CONTRAST, EMBEDDING, RECONSTRUCTION
from docs.generate import notes, pages, takes
from docs.generate.verbs import page as verbs
from tests.docs.pages import ROOT


@pytest.fixture(scope="module")
def generated() -> dict[Path, str]:
    return pages()


def differing(generated: dict[Path, str]) -> list[str]:
    """Return the lines in which committed pages differ from generated ones."""
    found = []
    for path, text in generated.items():
        name = path.relative_to(ROOT).as_posix()
        committed = path.read_text(encoding="utf-8") if path.exists() else ""
        found += difflib.unified_diff(committed.splitlines(), text.splitlines(), f"{name}, committed",
                                      f"{name}, as the code has it", lineterm="", n=1)  # fmt: skip
    return found


def test_committed_pages_are_current(generated: dict[Path, str]) -> None:
    found = differing(generated)
    assert not found, "\n".join(["write them anew by `make reference`:", *found[:200]])


def test_page_that_is_not_current_is_told_line_by_line(generated: dict[Path, str]) -> None:
    path = next(iter(generated))
    found = differing(generated | {path: generated[path].replace("# Settings", "# Sittings")})
    assert {"-# Settings", "+# Sittings"} <= {*found}


def test_no_page_of_the_reference_is_a_stranger(generated: dict[Path, str]) -> None:
    assert {*(ROOT / "docs" / "reference").iterdir()} == generated.keys()


def shown(generated: dict[Path, str], name: str) -> str:
    return generated[ROOT / "docs" / "reference" / f"{name}.md"]


def test_every_setting_method_and_loss_is_there_with_its_default(generated: dict[Path, str]) -> None:
    page = shown(generated, "settings")
    usual = config.flat(config.settings(config.cell(method="random")))
    for name, value in usual.items():
        if not name.startswith("method"):
            (line,) = [line for line in page.splitlines() if line.startswith(f"| `{name}` |")]
            written = line.split(" | ")[2].strip("`")
            assert config.flat({name: value}) == {name: _read(written)}, line
    for name, kind in Method.registry.items():
        section = page.partition(f"\n### {name}\n")[2].partition("\n### ")[0]
        assert [f"| `method.{field.name}` |" in section for field in fields(kind)] == [True] * len(fields(kind))
    for name in (*RECONSTRUCTION, *EMBEDDING, *CONTRAST):
        assert f"| `{name}` |" in page


def _read(written: str) -> object:
    words = {"null": None, "true": True, "false": False}
    try:
        return words[written] if written in words else ast.literal_eval(written)
    except (ValueError, SyntaxError):
        return written


def test_every_key_verb_experiment_and_name_is_there(generated: dict[Path, str]) -> None:
    assert [field.name for field in fields(Profile) if f"| `{field.name}` |" not in shown(generated, "profile")] == [
        "name", "stages",
    ]  # fmt: skip
    assert [verb for verb in jobs.__main__.VERBS if f"\n## {verb}\n" not in shown(generated, "verbs")] == []
    assert [name for name in experiments.names() if f"\n## {name}\n" not in shown(generated, "experiments")] == []
    assert [name for name in dae_ssl.__all__ if f"\n## {name}\n" not in shown(generated, "python")] == []


def test_number_of_cells_is_that_of_the_study(generated: dict[Path, str]) -> None:
    (line,) = [line for line in shown(generated, "experiments").splitlines() if line.startswith("| [`study`]")]
    study = experiments.load("study").sections([5])
    cells = {config.cell_key(cell): cell for section in study for cell in section.every()}
    trained = {config.key(cell, "pretrain") for cell in cells.values() if cell.method.trains}
    assert line.split(" | ")[2:4] == [str(len(cells)), str(len(trained))]


def test_help_is_that_of_the_command_on_any_machine(
    generated: dict[Path, str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("DAE_SSL_STORE", "/home/me/store")
    monkeypatch.setenv("COLUMNS", "40")
    assert verbs() == shown(generated, "verbs")
    monkeypatch.delenv("DAE_SSL_STORE")
    monkeypatch.setenv("COLUMNS", "90")  # argparse leaves two columns free
    with pytest.raises(SystemExit):
        jobs.__main__.run(["explain", "--help"])
    block = shown(generated, "verbs").partition("\n## explain\n\n```text\n")[2].partition("\n```")[0]
    assert capsys.readouterr().out.strip() == block


# ---------------------------------------------------------------------------------- what the generator refuses


@dataclass(frozen=True, kw_only=True)
class Planted:
    """Settings with and without notes."""

    good: int = 1
    """The number of things.

    Source: own choice.
    """
    unsourced: int = 1
    """The number of things."""
    bare: int = 1


def test_setting_without_a_note_or_a_source_is_refused() -> None:
    assert notes.of_fields(Planted, ["good"], sources=True) == {
        "good": notes.Note("The number of things.", "Own choice.")
    }
    assert notes.of_fields(Planted, ["unsourced"], sources=False)["unsourced"].source == ""
    with pytest.raises(ValueError, match=r"the note of Planted\.unsourced has no source"):
        notes.of_fields(Planted, ["unsourced"], sources=True)
    with pytest.raises(ValueError, match=r"Planted\.bare has no note"):
        notes.of_fields(Planted, ["bare"], sources=False)


def test_what_a_setting_takes_is_what_it_refuses_all_else_for() -> None:
    def build(given: object) -> Cell:
        return config.cell({"method": "dae"} | dict(given))  # type: ignore[call-overload]

    assert takes.taken(Cell, "precision", build) == "fp32, tf32 or bf16"
    assert takes.taken(Cell, "seed", build) == "whole number: between 0 and 4294967295"
    assert takes.taken(config.Probe, "learning_rates", lambda given: config.build(config.Probe, given)) == (
        "list, each a number: different numbers above 0"
    )
    assert takes.taken(config.Views, "frozen", lambda given: config.build(config.Views, given)) == "true or false"
