"""How figures look and what they are written as."""

import pytest

from dae_ssl.report.drawing import ABSENT, COLOURS, blank, frame_epochs, legend_above, line, pen, png, svg


def figure() -> object:
    drawn = blank(height_pixels=200)
    axes = drawn.add_subplot()
    line(axes, [(1, 0.5), (8, 0.75)], COLOURS[0], label="a")
    frame_epochs(axes, title="T", x="epoch", y="y")
    return drawn


def test_equal_figures_are_equal_bytes_and_name_no_version_or_date() -> None:
    for written in (png, svg):
        assert written(figure()) == written(figure())
        assert b"atplotlib v" not in written(figure())
    assert b"<text" not in svg(figure()), "letters are drawn, so that it needs no font"


def test_axes_over_epochs_begin_at_nothing_and_end_after_the_last() -> None:
    (axes,) = figure().axes
    low, high = axes.get_xlim()
    assert low == 0
    assert 8 < high < 9


def test_six_lines_are_told_apart_in_colour_and_in_print() -> None:
    pens = [pen(number) for number in range(6)]
    assert len({each.colour for each in pens}) == len({each.style for each in pens}) == 6
    assert len({each.marker for each in pens}) == 6
    assert pen(6) == pen(0)


def test_legend_has_each_name_once_and_what_is_missing_at_the_end() -> None:
    drawn = blank(height_pixels=200)
    panels = [drawn.add_subplot(1, 2, number) for number in (1, 2)]
    for axes, names in zip(panels, ((ABSENT, "a"), ("a", "b")), strict=True):
        for name in names:
            axes.plot([0], [0], label=name)
    legend_above(drawn, panels)
    (legend,) = drawn.legends
    assert [text.get_text() for text in legend.get_texts()] == ["a", "b", ABSENT]


@pytest.mark.parametrize("letters", [3, 25, 60])
def test_legend_is_never_cut_however_long_its_names_are(letters: int) -> None:
    figure = blank(height_pixels=200)
    axes = figure.add_subplot()
    for number in range(7):
        axes.plot([0], [0], label=f"{number} " + "m" * letters)
    legend_above(figure, [axes])
    figure.draw_without_rendering()
    (legend,) = figure.legends
    left, right = legend.get_window_extent().intervalx
    assert len(legend.get_texts()) == 7
    assert 0 <= left < right <= figure.bbox.width
