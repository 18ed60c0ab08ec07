"""How numbers read."""

import pytest

from dae_ssl.report.numbers import counted, four_digits, p_values, points, setting, signed, signed_four_digits, utc


def test_p_values_read_shortly() -> None:
    assert p_values([0.0004]) == "p < 0.001"
    assert p_values([0.0004, 0.0005]) == "p < 0.001 for all 2 seeds"
    assert p_values([0.0312, 0.5, 0.1]) == "p = 0.031 to 0.50 over 3 seeds"
    assert p_values([0.0001, 0.02]) == "p < 0.001 to 0.020 over 2 seeds"


def test_signed_numbers_have_a_sign_as_wide_as_a_plus() -> None:
    assert (signed(1.256, 2), signed(-1.256, 1), signed(0, 1)) == ("+1.26", "−1.3", "+0.0")
    assert (points(0.0123), points(-0.5)) == ("+1.23", "−50.00")


@pytest.mark.parametrize(
    ("value", "reads"), [(0.12345, "0.1235"), (9.99994, "9.9999"), (10, "10.00"), (-12.345, "-12.35")]
)
def test_numbers_of_any_size_have_about_four_digits(value: float, reads: str) -> None:
    assert four_digits(value) == reads
    assert signed_four_digits(value).lstrip("+−") == reads.lstrip("-")


def test_plural_is_for_all_counts_but_one() -> None:
    assert [counted(count, "seed") for count in (0, 1, 3)] == ["0 seeds", "1 seed", "3 seeds"]


def test_settings_read_as_they_are_written_on_a_command_line() -> None:
    assert [setting(value) for value in ("dae", 0.001, None, True, [1, 2])] == [
        "dae",
        "0.001",
        "null",
        "true",
        "[1, 2]",
    ]


def test_times_are_utc_wherever_the_page_is_drawn() -> None:
    assert utc(1.7e9) == "2023-11-14 22:13:20"
