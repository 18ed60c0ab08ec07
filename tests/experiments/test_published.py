"""Published numbers: each stands in one place, as the paper prints it, and experiments take it from there."""

import ast
from pathlib import Path

import pytest

import dae_ssl.training.methods  # noqa: F401  (registers every method)
from dae_ssl import experiments
from dae_ssl.experiments import published
from dae_ssl.experiments.published import CHOSEN, PLAIN, SIMCLR, Published, difference

TABLE_2 = """
SimCLR -    -      69.7
AE     none 0      61.2
AE     L1   0.01   62.0
AE     L2   0.0001 62.1
AE     NCS  0.001  62.6
DAE    none 0      65.9
DAE    L1   0.1    67.1
DAE    L2   1      67.1
DAE    NCS  10     67.3
"""
ACCURACIES = {float(line.split()[-1]) for line in TABLE_2.strip().splitlines()}


def number_literals(source: str) -> set[float]:
    """Return the numbers that are written out in a source, minus signs left off."""
    constants = (node.value for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Constant))
    return {float(value) for value in constants if isinstance(value, int | float) and not isinstance(value, bool)}


def test_table_2_is_as_the_paper_prints_it() -> None:
    lines = [f"SimCLR - - {SIMCLR:.1f}"]
    for kind, plain in PLAIN.items():
        lines.append(f"{kind} none 0 {plain:.1f}")
        lines += [f"{kind} {loss} {chosen.alpha:g} {chosen.accuracy:.1f}"
                  for (of, loss), chosen in CHOSEN.items() if of == kind]  # fmt: skip
    assert lines == [" ".join(line.split()) for line in TABLE_2.strip().splitlines()]


@pytest.mark.parametrize("name", experiments.names())
def test_what_rows_and_claims_have_as_published_comes_with_its_source(name: str) -> None:
    for section in experiments.load(name).sections():
        numbers = [row.published for row in section.shown] + [claim.published for claim in section.claims]
        for number in numbers:
            assert number is None or isinstance(number, Published), f"{number} is written out in {section.name}"
            assert number is None or number.source.startswith(("Table ", "Figure "))
        assert {float(row.published) for row in section.shown if row.published} <= ACCURACIES


@pytest.mark.parametrize("name", experiments.names())
def test_no_experiment_writes_a_published_accuracy_out(name: str) -> None:
    source = (Path(published.__file__).parent / f"{name}.py").read_text()
    assert number_literals(source) & ACCURACIES == set()


def test_number_that_is_written_out_is_found() -> None:
    assert number_literals('A = ("61.2", [x for x in (65.9,)], -2, True)') == {65.9, 2.0}


def test_difference_is_computed_from_the_two_and_rounded_where_that_is_asked_for() -> None:
    better, worse = CHOSEN["DAE", "L2"].accuracy, PLAIN["DAE"]
    assert difference(better, worse) == 67.1 - 65.9
    assert difference(better, worse, digits=1) == 1.2
    assert difference(better, worse).source == "Table 2"


def test_published_number_is_a_float_in_all_but_its_source() -> None:
    number = Published(67.1, "Table 2")
    assert (number, str(number), repr(number), f"{number:.2f}") == (67.1, "67.1", "67.1", "67.10")
    assert number.source == "Table 2"
