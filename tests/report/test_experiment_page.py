"""The report of an experiment: numbers of the records beside the published ones, claims tested, gaps shown as gaps."""

import csv
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import dae_ssl.training.methods  # noqa: F401  (registers every method)
from dae_ssl import config, experiments
from dae_ssl.compute import cells
from dae_ssl.config import Cell
from dae_ssl.experiments import Section
from dae_ssl.experiments.form import BEST, Claim, beats
from dae_ssl.report import verdicts
from dae_ssl.report.experiment import write_experiment_page
from dae_ssl.report.significance import Estimate, contrast, over_seeds
from dae_ssl.report.subjects import Subject, reader, subjects
from dae_ssl.report.tables import Entry, Table, comma_separated
from dae_ssl.store import Store
from tests.commanded import ask
from tests.forged import Page, forge

CHROMIUM = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
            "--disable-component-update", "--disable-sync"]  # fmt: skip
SEEDS = (0, 1)
RIGHT = {"DAE, no embedding loss": 0.9, "AE, no embedding loss": 0.6, "DAE, L2, α = 1": 0.85, "SimCLR": 0.7}
"""About which share of test images forged rows get right."""


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """A store in which some rows of the study are there for two seeds, others for one, and most not at all."""
    found = Store(tmp_path_factory.mktemp("study") / "store")
    number = 0
    for section in sections("methods"):
        for row, of_row in section.cells.items():
            for cell in of_row if row.label in RIGHT else ():
                if not (row.label == "SimCLR" and cell.seed == 1):
                    number += 1
                    forge(found, cell, right=RIGHT[row.label], seed=number, decodes=row.label != "SimCLR")
    for number, floor in enumerate(floors(sections("methods")), 100):
        forge(found, floor, right=0.5, seed=number)
    return found


def sections(name: str) -> tuple[Section, ...]:
    return experiments.load(name).sections(SEEDS)


def floors(of: tuple[Section, ...]) -> list[Cell]:
    return experiments.distinct(
        floor for section in of for cell in section.every() for floor in cells.floors(cell).values()
    )


def by_label(place: Store, name: str) -> dict[str, Subject]:
    (section,) = sections(name)
    return {one.label: one for one in subjects(section, floors((section,)), reader(place))}


def drawn(place: Store, name: str, **more: Any) -> Path:
    of = sections(name)
    return write_experiment_page(experiments.load(name), of, floors(of), place, **more)


@pytest.fixture(scope="module")
def study(place: Store) -> Path:
    return drawn(place, "study")


def records(path: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(path.read_text().splitlines()))


# ---------------------------------------------------------------------------------- numbers


def test_table_has_the_numbers_of_the_records_beside_the_published_ones(place: Store, study: Path) -> None:
    lines = {
        line["row"]: line for line in records(study.parent / "methods-table-2.csv") if line["figure"] == "test_accuracy"
    }
    (section,) = sections("methods")
    for row in section.shown:
        if row.label not in RIGHT:
            continue
        values = [100 * found["test_accuracy"] for cell in section.cells[row] if (found := cells.scores(cell, place))]
        line = lines[row.label]
        assert float(line["mean"]) == pytest.approx(np.mean(values), abs=1e-5)
        assert int(line["seeds"]) == len(values) == (1 if row.label == "SimCLR" else 2)
        assert float(line["published"]) == row.published
        assert float(line["difference"]) == pytest.approx(np.mean(values) - row.published, abs=1e-3)
        if len(values) > 1:
            expected = over_seeds(values)
            assert (float(line["low"]), float(line["high"])) == pytest.approx((expected.low, expected.high), abs=1e-5)
        assert line["interval_over"] == ("images" if len(values) == 1 else "seeds")
        inside = float(line["low"]) <= row.published <= float(line["high"])
        expected_words = verdicts.AGREES if inside else verdicts.DIFFERS
        assert line["verdict"] == expected_words + (verdicts.ONE_SEED if len(values) == 1 else "")


def test_every_row_of_every_table_is_there_measured_or_not(study: Path) -> None:
    for section in sections("study"):
        for exhibit in section.exhibits:
            path = study.parent / f"{section.name}-{exhibit.name}.csv"
            if path.exists() and "row" in records(path)[0]:
                assert {row.label for row in section.shown} <= {line["row"] for line in records(path)} | {""}, path.name
    lines = [line for line in records(study.parent / "methods-table-2.csv") if line["row"] == "AE, L1"]
    assert {line["interval_over"] for line in lines} == {"not yet measured"}
    assert {line["mean"] for line in lines} == {""}


def test_row_that_validation_chooses_is_the_best_on_validation_and_says_among_how_many(tmp_path: Path) -> None:
    place = Store(tmp_path)
    (section,) = sections("methods")
    row = next(row for row in section.shown if row.label == "DAE, L2")
    best: dict[str, float] = {}
    for number, candidate in enumerate(row.among[:4]):
        for cell in section.cells[candidate]:
            forge(place, cell, right=0.9 - 0.1 * number, seed=number + 10 * cell.seed)
        found = [cells.scores(cell, place)["validation_accuracy"] for cell in section.cells[candidate]]
        best[candidate.label] = float(np.mean(found))
    chosen = by_label(place, "methods")["DAE, L2"]
    label = max(best, key=lambda name: best[name])
    cell = section.cells[next(one for one in row.among if one.label == label)][0]
    assert config.cell_key(chosen.found[0].cell) == config.cell_key(cell)
    assert chosen.chosen.endswith("chosen among the 4 of 7 done")
    assert f"α = {label.rpartition(' ')[2]}," in chosen.chosen


def test_candidates_are_compared_over_the_seed_that_most_of_them_have(tmp_path: Path) -> None:
    place = Store(tmp_path)
    (section,) = sections("methods")
    row = next(row for row in section.shown if row.label == "DAE, L2")
    for number, candidate in enumerate(row.among):
        for cell in section.cells[candidate][: 2 if number < 3 else 1]:
            forge(place, cell, right=0.8, seed=number + 10 * cell.seed)
    of_first = {one: cells.scores(section.cells[one][0], place)["validation_accuracy"] for one in row.among}
    best = max(of_first, key=lambda one: of_first[one])
    chosen = by_label(place, "methods")["DAE, L2"]
    assert config.cell_key(chosen.found[0].cell) == config.cell_key(section.cells[best][0])
    assert chosen.chosen.endswith("chosen among 7")


# ---------------------------------------------------------------------------------- claims


def test_claim_is_a_difference_paired_over_images_and_seeds(place: Store) -> None:
    known = by_label(place, "denoising")
    dae, ae = (known[f"{kind}, no embedding loss"] for kind in ("DAE", "AE"))
    (found,) = verdicts.tested([beats(dae.label, ae.label, "better", "here")], known)
    arrays = [np.stack([one.correct["probe"].mean(0) for one in subject.found]) for subject in (dae, ae)]
    expected = contrast(arrays, [1.0, -1.0])
    assert found.estimate is not None
    assert found.estimate.mean == pytest.approx(100 * expected.mean)
    assert (found.estimate.seeds, found.estimate.over, found.verdict) == (2, "seeds and images", verdicts.HOLDS)
    (reverse,) = verdicts.tested([beats(ae.label, dae.label, "worse", "here")], known)
    assert reverse.verdict == verdicts.FAILS


@pytest.mark.parametrize(
    ("low", "high", "above", "below", "verdict"),
    [
        (1, 2, 0, 9, verdicts.HOLDS),
        (-1, 2, 0, 9, verdicts.UNDECIDED),
        (-2, -1, 0, 9, verdicts.FAILS),
        (8, 10, 0, 9, verdicts.UNDECIDED),
        (9, 10, 0, 9, verdicts.FAILS),
        (None, None, 0, 9, verdicts.NO_INTERVAL),
    ],
)
def test_claim_holds_if_the_whole_interval_lies_where_it_says(
    low: float | None, high: float | None, above: float, below: float, verdict: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(verdicts, "paired", lambda *_: Estimate(mean=1, low=low, high=high, seeds=2))
    claim = Claim(words="", source="", weights={"a": 1}, above=above, below=below)
    (found,) = verdicts.tested([claim], {"a": Subject("a", ())})
    assert found.verdict == verdict


def test_claim_about_a_row_that_validation_has_not_settled_is_not_judged(place: Store) -> None:
    known = by_label(place, "methods")
    assert not known["DAE, L2"].settled, "one of seven weights is done"
    (found,) = verdicts.tested([beats("DAE, L2", "AE, no embedding loss", "", "")], known)
    assert found.verdict == verdicts.UNCHOSEN
    assert found.estimate is not None
    (at_the_studys,) = verdicts.tested([beats("DAE, L2, α = 1, the study's", "AE, no embedding loss", "", "")], known)
    assert at_the_studys.verdict == verdicts.HOLDS


def test_claim_of_rows_that_are_missing_or_not_there_says_so(place: Store) -> None:
    known = by_label(place, "methods")
    claims = [beats("DAE, NCS", "DAE, L1", "", ""), beats("DAE, no embedding loss", "nothing of the kind", "", "")]
    assert [found.verdict for found in verdicts.tested(claims, known)] == [verdicts.UNMEASURED, verdicts.NO_ROW]


def test_peak_of_test_accuracies_is_chosen_on_validation_and_of_other_figures_by_the_other_seeds(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    figures = {
        "validation_accuracy": {"a": {0: 50.0, 1: 50.0}, "b": {0: 60.0, 1: 60.0}, "end": {0: 40.0, 1: 40.0}},
        "test_accuracy": {"a": {0: 70.0, 1: 70.0}, "b": {0: 65.0, 1: 65.0}, "end": {0: 60.0, 1: 60.0}},
        "kmeans_inertia": {"a": {0: 9.0, 1: 1.0}, "b": {0: 2.0, 1: 8.0}, "end": {0: 0.0, 1: 0.0}},
    }
    monkeypatch.setattr(verdicts, "by_seed", lambda labels, _known, figure: {
        seed: {label: figures[figure][label][seed] for label in labels} for seed in (0, 1)})  # fmt: skip
    known = {label: Subject(label, ()) for label in ("a", "b", "end")}
    asked: dict[str, str] = {}

    def paired(weights: dict[str, float], by_label: dict[str, Subject], _figure: str) -> None:
        asked.update({label: by_label[label].label for label in weights})

    monkeypatch.setattr(verdicts, "paired", paired)
    claim = Claim(words="", source="", best=["a", "b"], weights={BEST: 1.0, "end": -1.0})
    verdicts.tested([claim], known)
    assert asked == {BEST: "b", "end": "end"}, "though a is better on test"
    (found,) = verdicts.tested([replace(claim, figure="kmeans_inertia")], known)
    assert found.estimate is not None
    assert found.estimate.mean == 1.5, "seed 0 looks where seed 1 peaks, and the other way round: 2 and 1"
    assert found.estimate.p is None


def test_floors_that_are_evaluated_otherwise_stand_apart(tmp_path: Path) -> None:
    known = by_label(Store(tmp_path), "as_published_code")
    floors_ = [label for label, one in known.items() if one.floor]
    assert floors_ == ["random encoder", "random encoder, probe.epochs = 150", "raw pixels",
                       "raw pixels, probe.epochs = 150"]  # fmt: skip
    assert [one.cell.seed for one in known["random encoder"].found] == [0, 1]


def test_claim_about_the_shape_of_a_curve_is_computed_for_each_seed(place: Store) -> None:
    known = by_label(place, "denoising")
    labels = [one for one in known if not known[one].floor]
    claim = Claim(words="", source="", rows=labels, value=lambda figures: max(figures.values()) - min(figures.values()))
    (found,) = verdicts.tested([claim], known)
    one, other = (known[label].by_seed("test_accuracy") for label in labels)
    differences = [abs(one[seed] - other[seed]) for seed in SEEDS]
    assert found.estimate == replace(over_seeds(differences), p=None)


def test_published_number_agrees_differs_or_is_not_measured_and_never_compares_with_a_reduced_study() -> None:
    measured = Estimate(mean=67, low=66, high=68, seeds=3)
    assert verdicts.of_number(67.1, measured, reduced=False) == verdicts.AGREES
    assert verdicts.of_number(69.7, measured, reduced=False) == verdicts.DIFFERS
    assert verdicts.of_number(69.7, None, reduced=False) == verdicts.UNMEASURED
    assert verdicts.of_number(67.1, measured, reduced=False, chosen=False) == verdicts.UNCHOSEN
    alone = Estimate(mean=67, low=66, high=68, seeds=1)
    assert verdicts.of_number(69.7, alone, reduced=False) == "differs (one seed)"
    assert verdicts.of_number(67.1, measured, reduced=True) == verdicts.REDUCED


# ---------------------------------------------------------------------------------- page and files


def test_every_figure_is_an_svg_and_a_png_and_every_table_html_markdown_and_csv(study: Path) -> None:
    kinds: dict[str, set[str]] = {}
    for path in study.parent.iterdir():
        kinds.setdefault(path.stem, set()).add(path.suffix)
    assert kinds.pop("report") == {".html"}
    tables = {name for name, found in kinds.items() if ".md" in found}
    assert all(kinds[name] == {".html", ".md", ".csv"} for name in tables)
    assert all({".svg", ".png"} <= found for name, found in kinds.items() if name not in tables)
    shown = {f"{section.name}-{exhibit.name}" for section in sections("study") for exhibit in section.exhibits}
    assert shown <= kinds.keys()
    assert {f"{section.name}-claims" for section in sections("study") if section.claims} <= tables


def test_page_stands_by_itself_and_is_the_same_when_drawn_again(place: Store, study: Path) -> None:
    page = Page(study)
    outside = [address for address in page.addresses if not address.startswith("data:")]
    assert all((study.parent / address).exists() for address in outside if "://" not in address and address[0] != "#")
    assert not any("://" in address for address in outside)
    assert "<script" not in page.raw
    before = {path.name: path.read_bytes() for path in study.parent.iterdir()}
    drawn(place, "study")
    assert {path.name: path.read_bytes() for path in study.parent.iterdir()} == before


@pytest.mark.slow
def test_experiment_with_nothing_measured_is_drawn_with_everything_missing(tmp_path: Path) -> None:
    for name in experiments.names():
        path = drawn(Store(tmp_path), name)
        page = Page(path)
        assert "not yet measured" in page.text.lower(), name
        assert path.parent.name == name


def forged_page(place: Store, *changes: str, right: float = 0.8) -> Path:
    """Forge Figure 4's cells with some changes, and draw their page, without those of its cells."""
    asked = ask(["denoising", f"--store={place.root}", *changes])
    for number, cell in enumerate(asked.cells):
        forge(place, cell, right=right, seed=number)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("dae_ssl.report.experiment._draw_cell", lambda *_: None)
        return write_experiment_page(asked.experiment, asked.sections, asked.floors, place, variant=asked.variant)


def verdicts_of(path: Path) -> set[str]:
    lines = records(path.parent / "denoising-accuracies.csv")
    return {line["verdict"].removesuffix(verdicts.ONE_SEED) for line in lines} - {""}


@pytest.mark.parametrize("precision", [[], ["precision=bf16"]])
def test_reduced_study_has_a_page_of_its_own_that_says_so_and_compares_no_number(
    precision: list[str], study: Path, tmp_path: Path
) -> None:
    path = forged_page(Store(tmp_path), "--scale=small", *precision)
    called = "-".join(["small", *("bf16" for _ in precision)])
    assert path.parent.name == f"denoising-{called}"
    text = Page(path).text
    assert f"Not the study as published ({called})." in text
    assert verdicts_of(path) == {verdicts.REDUCED}
    assert ("Pretrained in bf16" in text) == bool(precision)
    assert "compared with the published" not in text
    assert "Not the study as published" not in Page(study).text


@pytest.fixture(scope="module")
def precisions(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The pages of Figure 4 in each precision, of one store; accuracies lie far above the published."""
    place = Store(tmp_path_factory.mktemp("precisions"))
    return {name: forged_page(place, f"precision={name}", right=0.95) for name in ("fp32", "tf32", "bf16")}


@pytest.mark.parametrize("precision", ["tf32", "bf16"])
def test_study_in_another_precision_is_of_full_length_has_its_own_page_and_says_which(
    precision: str, precisions: dict[str, Path]
) -> None:
    assert [path.parent.name for path in precisions.values()] == ["denoising", "denoising-tf32", "denoising-bf16"]
    path = precisions[precision]
    assert verdicts_of(path) == {verdicts.DIFFERS}
    text = Page(path).text
    assert f"Pretrained in {precision}" in text
    assert "The default is fp32." in text
    assert "TF32 in convolutions" in text
    assert "probe and k-means are computed in float32" in text
    assert "Not the study as published" not in text
    assert "Pretrained in fp32" in Page(precisions["fp32"]).text


def test_page_of_one_precision_shows_no_cell_of_another_that_the_store_has(precisions: dict[str, Path]) -> None:
    shown: list[str] = []
    for path in precisions.values():
        lines = records(path.parent / "denoising-accuracies.csv")
        shown += {line["cells"] for line in lines if "embedding loss" in line["row"]}
    assert len(set(shown)) == len(shown) == 3 * 2


def test_page_whose_rows_differ_in_precision_says_that_they_do(tmp_path: Path) -> None:
    text = Page(drawn(Store(tmp_path), "precision")).text
    assert "Each row is pretrained as its name says. fp32: float32" in text
    assert "; tf32: " in text
    assert "; bf16: " in text


def test_table_reads_the_same_as_html_markdown_and_csv() -> None:
    table = Table(
        title="T", head=["", "a|b", "c"],
        rows=[("r", [Entry(text="1.5", small="[1, 2]"), Entry(text="gone", absent=True)])],
        records=[{"row": "r", "mean": 1.5}, {"row": "s", "high": None, "note": 'a "quoted", one'}],
    )  # fmt: skip
    assert table.markdown() == "|  | a\\|b | c |\n|---|---|---|\n| r | 1.5 [1, 2] | *gone* |\n"
    assert list(csv.DictReader(comma_separated(table.records).splitlines())) == [
        {"row": "r", "mean": "1.5", "high": "", "note": ""},
        {"row": "s", "mean": "", "high": "", "note": 'a "quoted", one'},
    ]
    assert b"<h1>T</h1>" in table.html()


@pytest.mark.slow
def test_page_opens_offline_in_a_browser_with_all_its_pictures_and_no_errors(study: Path) -> None:
    if shutil.which("chromium") is None:
        pytest.skip("chromium is not installed: apt-get install chromium")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=CHROMIUM)
        page = browser.new_page(viewport={"width": 1280, "height": 900}, offline=True)
        said: list[str] = []
        page.on("console", lambda message: said.append(message.text))
        page.on("pageerror", lambda error: said.append(str(error)))
        page.on("requestfailed", lambda request: said.append(f"failed {request.url[:80]}"))
        page.goto(study.as_uri())
        widths = page.evaluate("[...document.images].map(i => i.complete ? i.naturalWidth : 0)")
        overflow = page.evaluate("document.documentElement.scrollWidth - window.innerWidth")
        for section in sections("study"):
            assert page.locator(f"#{section.name}").is_visible()
        browser.close()
    assert said == []
    assert len(widths) >= 12
    assert min(widths) > 100
    assert overflow <= 0, "the page itself does not scroll sideways"
