"""Charts: round ticks, lines where the values are, gaps where there are none, and the same layout as image and SVG."""

import math
import re
import xml.etree.ElementTree as ET

import numpy as np
import pytest

from visualization.charts import DOTS_UP_TO, SERIES_COLORS, BarGroup, Mark, Series, bar_chart, legend, line_chart, ticks
from visualization.shapes import COLORS, Dot, Lines, Rect, Text, to_image, to_svg

HOSTILE = "<script>alert('\u00fc')</script>&\""


def shapes(chart, kind, color=None):
    return [shape for shape in chart.shapes if isinstance(shape, kind) and color in (None, shape.color)]


def pixels(image, color):
    """(N, 2) x, y of the pixels of exactly a color."""
    y, x = np.nonzero((image == COLORS[color]).all(2))
    return np.stack((x, y), 1)


@pytest.mark.parametrize(("low", "high", "about", "expected"), [
    (0, 1, 5, [0, 0.2, 0.4, 0.6, 0.8, 1]),
    (0, 3.4, 5, [0, 1, 2, 3, 4]),
    (1, 1000, 8, [0, 200, 400, 600, 800, 1000]),
    (0, 0.3, 3, [0, 0.1, 0.2, 0.3]),
    (0, 7e6, 4, [0, 2e6, 4e6, 6e6, 8e6]),
    (-7, 3, 5, [-8, -6, -4, -2, 0, 2, 4]),
])
def test_ticks_are_round_and_enclose_the_values(low, high, about, expected):
    assert ticks(low, high, about) == expected


@pytest.mark.parametrize("value", [0.0, 0.4, 1.0])
def test_a_line_is_drawn_at_its_value(value):
    """The axis ends at 1, the value of the second series; positions are those of its own lines across."""
    epochs = list(range(1, 50))
    chart = line_chart("", [Series("a", epochs, [value] * 49, "blue"), Series("b", epochs, [1.0] * 49, "orange")])
    across = {shape.text: shape.y - 4 for shape in shapes(chart, Text, "soft")}
    line = shapes(chart, Lines, "blue")[-1].pieces[0]
    assert [y for _, y in line] == pytest.approx([across[f"{value:g}"]] * 49)
    if value < 1:  # a series that is drawn later covers it there
        drawn = pixels(to_image(chart), "blue")
        assert np.median(drawn[drawn[:, 1] > 60][:, 1]) == pytest.approx(across[f"{value:g}"], abs=1)


def test_both_backends_draw_at_the_same_positions():
    chart = line_chart("t", [Series("", [0, 1, 2], [0.0, 3.0, 1.0], "green")])
    svg = ET.fromstring(to_svg(chart))
    assert svg.get("viewBox") == f"0 0 {chart.width} {chart.height}"
    assert to_image(chart).shape == (chart.height, chart.width, 3) and to_image(chart).dtype == np.uint8
    circles = [(float(dot.get("cx")), float(dot.get("cy"))) for dot in svg.iter("circle")]
    assert len(circles) == 3
    drawn = pixels(to_image(chart), "green")
    for center in circles:
        assert np.hypot(*(drawn - center).T).min() <= 1
    low, high = drawn.min(0), drawn.max(0)
    assert low == pytest.approx(np.min(circles, 0), abs=4) and high == pytest.approx(np.max(circles, 0), abs=4)


@pytest.mark.parametrize("missing", [math.nan, math.inf])
def test_a_missing_value_leaves_a_gap(missing):
    full = [0.5] * 100
    holed = [missing if 40 < i < 60 else 0.5 for i in range(100)]
    (whole,), (first, second) = (shapes(line_chart("", [Series("", range(100), values)]), Lines, "blue")[-1].pieces
                                 for values in (full, holed))
    assert (len(whole), len(first), len(second)) == (100, 41, 40)
    assert (first[-1], second[0]) == (whole[40], whole[60])
    (path,) = re.findall(r'class="blue" .*?d="(.*?)"', to_svg(line_chart("", [Series("", range(100), holed)])))
    assert path.count("M") == 2 and path.count("L") == 79


def test_few_points_and_single_ones_get_a_dot_each():
    many = DOTS_UP_TO + 1
    assert len(shapes(line_chart("", [Series("a", range(many), [1.0] * many)]), Dot)) == 0
    assert len(shapes(line_chart("", [Series("a", range(many - 1), [1.0] * (many - 1))]), Dot)) == many - 1
    alone = [math.nan if i == 1 else 1.0 for i in range(many)]
    assert len(shapes(line_chart("", [Series("a", range(many), alone)]), Dot)) == 1


@pytest.mark.parametrize("values", [[math.nan] * 2, [math.inf] * 2, []])
def test_a_series_without_any_value_is_an_empty_chart(values):
    chart = line_chart("", [Series("", range(len(values)), values)])
    assert shapes(chart, Lines, "blue") == shapes(chart, Dot, "blue") == []
    assert len(pixels(to_image(chart), "blue")) == 0 and "nan" not in to_svg(chart)


def test_a_single_point_is_a_dot_in_the_middle_of_its_axis():
    chart = line_chart("", [Series("a", [7], [1.0])])
    (dot,) = shapes(chart, Dot)
    axis = next(shape for shape in shapes(chart, Lines, "soft") if shape.pieces[0][0][1] == shape.pieces[0][1][1])
    assert dot.x == pytest.approx(np.mean([x for x, _ in axis.pieces[0]]))
    assert [shape.text for shape in shapes(chart, Text) if shape.anchor == 0.5] == ["7"], "no half epochs"


def test_negative_values_get_room_and_a_line_at_zero():
    chart = line_chart("", [Series("a", [1, 2], [-7.0, 3.0])])
    labels = {shape.text: shape.y for shape in shapes(chart, Text, "soft") if shape.anchor == 1.0}
    assert {"-8", "0", "4"} <= set(labels)
    levels = [shape.pieces[0][0][1] for shape in shapes(chart, Lines, "soft") if len(shape.pieces) == 1]
    assert any(y == pytest.approx(labels["0"] - 4) for y in levels)


def test_marks_and_a_diagonal_lie_where_their_values_are():
    chart = line_chart("", [Series("", [0, 1], [0, 1])], x_range=(0, 1), y_range=(0, 1), diagonal=True,
                       marks=[Mark(0.25, 0.25, "low"), Mark(0.75, 0.75, "high")])
    start, end = shapes(chart, Lines, "blue")[0].pieces[0]
    broken = next(shape for shape in shapes(chart, Lines, "soft") if len(shape.pieces) > 1)
    assert broken.pieces[0][0] == pytest.approx(start) and broken.pieces[-1][-1] == pytest.approx(end)
    rings = shapes(chart, Dot, "ink")
    assert [(ring.x, ring.y) for ring in rings] == [pytest.approx(np.array(start) + share * np.subtract(end, start))
                                                    for share in (0.25, 0.75)]
    texts = {shape.text: shape for shape in shapes(chart, Text) if shape.halo}
    assert texts["low"].x > rings[0].x and texts["low"].anchor == 0
    assert texts["high"].x < rings[1].x and texts["high"].anchor == 1


def test_a_legend_takes_as_many_rows_as_it_needs_and_leaves_the_lines_their_room():
    series = [Series(f"a rather long name of run {i}", [1, 2], [i, i], SERIES_COLORS[i]) for i in range(8)]
    names = shapes(legend(series, 720), Text)
    assert len(names) == 8 and len({name.y for name in names}) > 1 and legend(series, 720).width == 720
    chart = line_chart("t", series, size=(720, 420))
    lowest = max(shape.y for shape in shapes(chart, Text) if "name" in shape.text)
    assert all(y > lowest for color in SERIES_COLORS for _, y in shapes(chart, Lines, color)[-1].pieces[0])
    hidden = line_chart("t", series, size=(720, 420), show_legend=False)
    assert not any("name" in shape.text for shape in shapes(hidden, Text))


def test_bars_are_as_long_as_their_values():
    chart = bar_chart("t", [BarGroup("a", [10.0], ["x"]), BarGroup("<b>", [5.0], ["y"]),
                            BarGroup("c", [math.nan], ["z"])])
    lengths = [bar.width for bar in shapes(chart, Rect)]
    assert lengths[0] == 2 * lengths[1] > 0 and lengths[2] == 0
    svg = ET.fromstring(to_svg(chart))
    assert [float(bar.get("width")) for bar in svg.iter("rect")] == pytest.approx(lengths, abs=0.05)
    assert [text.text for text in svg.iter("text")] == ["t", "a", "x", "<b>", "y", "c", "z"]
    image = to_image(chart)
    for bar in shapes(chart, Rect)[:2]:
        assert (image[round(bar.y) + 5, round(bar.x) + 2:round(bar.x + bar.width) - 1] == COLORS["blue"]).all()


def test_bars_of_two_series_share_a_scale_and_a_legend():
    chart = bar_chart("t", [BarGroup("a", [0.5, 1.0], ["half", "all"])], [("precision", "blue"), ("recall", "orange")],
                      highest=2.0)
    blue, orange = shapes(chart, Rect)
    assert (blue.color, orange.color) == ("blue", "orange") and orange.width == 2 * blue.width
    assert {"precision", "recall"} <= {text.text for text in shapes(chart, Text)}
    assert orange.x + orange.width < chart.width / 2 + blue.x, "1 of 2 is half the room"


def test_text_is_escaped_in_svg_and_replaced_where_the_image_has_no_letter():
    chart = line_chart(HOSTILE, [Series(HOSTILE, [0], [0.0]), Series("b", [0], [1.0])], HOSTILE, HOSTILE,
                       marks=[Mark(0, 0, HOSTILE)])
    svg = ET.fromstring(to_svg(chart))
    assert svg.get("aria-label") == HOSTILE
    assert sum(text.text == HOSTILE for text in svg.iter("text")) == 5
    assert to_image(chart).shape == (420, 760, 3)
