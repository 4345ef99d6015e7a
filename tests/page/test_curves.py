"""Panels of several curves: every value has its place, and axes say what they are."""

import math
import re

import pytest

from mmdisco_cli.page.curves import HEIGHT, WIDTH, Curve, Level, curves_panel, spelt_number, thinned


def points_of(panel: str) -> list[list[tuple[float, float]]]:
    paths = re.findall(r'<g class="c-\w+" opacity="[\d.]+"><path d="M([^"]*)"', panel)
    return [[tuple(map(float, place.split())) for place in path.split("L")] for path in paths]  # type: ignore[misc]


def test_curves_share_one_scale_and_a_level_lies_on_it() -> None:
    a, b = Curve("a", [(0, 0.0), (10, 1.0)], "training"), Curve("b", [(5, 0.5)], "heldout")
    panel = curves_panel("t", "n", [a, b, Curve("none", [], "time")], Level("chance", 0.5))
    (start, end), (middle,) = points_of(panel)
    assert middle == pytest.approx(((start[0] + end[0]) / 2, (start[1] + end[1]) / 2))
    assert start[1] > end[1]
    assert all(0 <= x <= WIDTH and 0 <= y <= HEIGHT for x, y in (start, end))
    assert re.search(rf'class="half" d="M\d+ {middle[1]:.1f}H', panel)
    assert "chance <b>0.5</b>" in panel
    assert "none" not in panel
    assert "begin" not in panel
    assert 'aria-label="t: a 1 at step 10, b 0.5 at step 5"' in panel


def test_orders_of_magnitude_take_a_logarithmic_axis_and_others_say_where_they_begin() -> None:
    panel = curves_panel("t", "", [Curve("a", [(0, 1.0), (1, 1e7), (2, 1e14)], "training")])
    assert "<p>logarithmic axis</p>" in panel
    ((_, low), (_, middle), (_, high)) = points_of(panel)[0]
    assert middle == pytest.approx((low + high) / 2, abs=0.1)
    assert "the axis does not begin at 0" in curves_panel("t", "", [Curve("a", [(0, 5.0), (1, 6.0)], "training")])
    assert "<p>" not in curves_panel("t", "", [Curve("a", [(0, -5.0), (1, 6.0)], "training")])


def test_one_value_and_equal_values_are_drawn_and_none_are_not() -> None:
    assert curves_panel("t", "n", [Curve("a", [], "training")]) == ""
    for points in ([(3, 2.0)], [(0, 2.0), (1, 2.0)], [(0, 0.0), (1, 0.0)]):
        (found,) = points_of(curves_panel("t", "n", [Curve("a", points, "training")]))
        assert len(found) == len(points)


def test_titles_and_names_are_text() -> None:
    panel = curves_panel("<b>", "<i>", [Curve("<u>", [(0, 1.0)], "training")], Level("<s>", 0.0))
    assert not re.search(r"<(b|i|u|s)>(?!\d|</)", panel.replace("<b>1</b>", "").replace("<b>0</b>", ""))
    assert "&lt;b&gt;" in panel


def test_a_long_curve_keeps_its_jumps_and_its_ends() -> None:
    points = [(float(k), math.sin(k / 500)) for k in range(10000)]
    points[4321] = (4321.0, 50.0)
    points[7654] = (7654.0, -50.0)
    found = thinned(points)
    assert len(found) <= 600
    assert {(4321.0, 50.0), (7654.0, -50.0)} <= set(found)
    assert found == sorted(found)
    assert thinned(points[:600]) == points[:600]


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "0"), (-0.0, "0"), (1.38629, "1.386"), (-0.00019, "-0.00019"), (0.07171, "0.0717"), (197.3, "197"),
     (1e14, "1e+14"), (12345.6, "12346"), (-2.5, "-2.5")],
)  # fmt: skip
def test_numbers_are_spelt_with_digits_that_count(value: float, text: str) -> None:
    assert spelt_number(value) == text


def test_values_that_are_not_finite_are_left_out() -> None:
    wrong = [(0, 1.0), (1, math.nan), (2, math.inf), (3, 2.0)]
    panel = curves_panel("t", "n", [Curve("a", wrong, "heldout")])
    assert [len(places) for places in points_of(panel)] == [2]
    assert "nan" not in panel
    assert "inf" not in panel
    assert curves_panel("t", "n", [Curve("a", [(0, math.nan)], "training")]) == ""
