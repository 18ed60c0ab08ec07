"""A part of an experiment's page: its rows, the floors that are its cells' and no others, its claims."""

from dae_ssl.report.experiment.parts import part
from dae_ssl.report.findings import reader
from dae_ssl.store import Store
from tests.report.experiment.conftest import floors, sections


def test_part_has_its_rows_and_the_floors_of_its_own_cells(store: Store) -> None:
    (section,) = sections("denoising")
    (otherwise,) = sections("as_published_code")
    shown = part(section, floors((otherwise, section)), reader(store))
    assert [subject.row.label for subject in shown.subjects] == [
        *(row.label for row in section.shown), "random encoder", "raw pixels",
    ]  # fmt: skip
    assert [test.claim for test in shown.tests] == list(section.claims)


def test_claims_about_floors_that_are_left_out_say_so(store: Store) -> None:
    (section,) = sections("denoising")
    of_floors = [test for test in part(section, [], reader(store)).tests if "random" in test.claim.weights]
    assert {test.verdict for test in of_floors} == {"its floor is left out"}
