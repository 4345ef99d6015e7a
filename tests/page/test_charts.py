"""Plots put points and labels where they belong, and escape texts."""

import re

from mmdisco_cli.page.charts import Place, curve_panel, dots_panel, interval_panel, short


def places(html, kind):
    return [float(value) for value in re.findall(rf'class="{kind}" style="left:([\d.]+)%', html)]


def test_lines_share_one_scale_that_begins_at_0():
    figures = {"real": {"value": 2.0, "low": 1.0, "high": 4.0}, "guided": {"value": 1.0, "error": 0.5}}
    html = interval_panel("<title>", "", figures, {"real": {"value": 3.0}})
    assert places(html, "dot") == [50.0, 25.0]
    assert places(html, "reach") == [25.0, 0.0]
    assert places(html, "chance") == [75.0]
    assert "&lt;title&gt;" in html


def test_values_below_0_are_on_the_scale():
    html = interval_panel("t", "", {"real": {"value": -1.0, "low": -2.0, "high": 2.0}}, {})
    assert places(html, "dot") == [25.0]


def test_what_has_no_value_has_no_plot():
    assert interval_panel("t", "", {"real": {"value": None}, "guided": None}, {}) == ""
    assert dots_panel("t", {"real": []}) == ""
    assert curve_panel("t", "", [Place(0.0, 1.0)]) == ""


def test_dots_and_curves_keep_their_order():
    dots = [float(x) for x in re.findall(r'cx="([\d.]+)"', dots_panel("t", {"real": [0.0, 0.5, 1.0]}))]
    assert dots == sorted(dots)
    assert dots[1] - dots[0] == dots[2] - dots[1]
    html = curve_panel("t", "", [Place(2.0, 1.0, 0.9, 1.1), Place(0.0, 0.5, 0.4, 0.6)], 0.5, x="log-SNR <of> a")
    assert "log-SNR &lt;of&gt; a" in html
    path = re.search(r'class="curve" d="M([^"]+)"', html)[1]
    (x0, y0), (x1, y1) = (map(float, point.split()) for point in path.split("L"))
    assert x0 < x1
    assert y0 > y1
    band = re.search(r'class="reach" d="M([^"]+)Z"', html)[1]
    heights = [float(point.split()[1]) for point in band.split("L")]
    # Above the curve from left to right, then below it and back.
    assert heights[0] < y0 < heights[3]
    assert heights[1] < y1 < heights[2]


def test_many_clips_are_thinned_evenly():
    assert dots_panel("t", {"real": [k / 5000 for k in range(5000)]}).count("<circle") <= 400


def test_numbers_are_short():
    assert [short(x) for x in (0.0, 1.0, 0.12345, -0.5, 1234.5)] == ["0", "1", "0.123", "-0.5", "1.23e+03"]
    assert short(1234567) == "1,234,567"
