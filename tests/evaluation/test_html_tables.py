"""The tables of report.html hold every figure of every protocol, whatever shape its metrics have."""

import re
from typing import Any

import pytest

from mmdisco_cli.evaluation.html_tables import rows_of, tables_html


def figure(value: float | None, **more: Any) -> dict[str, Any]:
    low, high = (None, None) if value is None else (value - 0.01, value + 0.01)
    return {"value": value, "low": low, "high": high, **more}


def cells_of(html: str) -> dict[str, list[str]]:
    """Return the cells of every row of every table by its heading, without marks and intervals."""
    found = {}
    for head, rest in re.findall(r'<tr><th scope="row">(.*?)</th>(.*?)</tr>', html):
        plain = re.sub(r"<small.*?</small>|<br>", "", rest)
        found[re.sub(r"<.*", "", head).strip()] = [cell.strip() for cell in re.findall(r"<td>(.*?)</td>", plain)]
    return found


def test_figures_by_row_stand_side_by_side_with_what_compares_them() -> None:
    metrics = {
        "event_iou": {
            "guided_no_text": figure(0.3),
            "guided": figure(0.9),
            "real": figure(1.0),
            "difference": figure(0.7, n=8),
            "gap_closed": figure(0.8),
        },
        "kd_frames": {"exact": figure(0.25, n=9, n_reference=7, dimension=3), "protocol": {"of_itself": 0.123}},
    }
    html = tables_html(metrics)
    assert re.findall(r'<th scope="col">(.*?)</th>', html) == [
        *("real", "guided", "guided no text", "exact", "difference", "gap closed"),
    ]
    assert cells_of(html) == {
        "event IoU": ["1", "0.9", "0.3", "-", "0.7", "0.8"],
        "KD frames": ["-", "-", "-", "0.25", "-", "-"],
    }
    assert "n 9, reference 7, D 3" in html
    assert "0.123" not in html
    assert "guided less independent" in html


@pytest.mark.parametrize(
    ("metrics", "expected"),
    [
        (
            {"digit_share": {"image": {"real": {"min": 0.1, "three": figure(0.125), "n": 40}}}},
            {"image, real": ["0.1", "0.125", "40"]},
        ),
        ({"variants": {"one <b>": {"residual_error": figure(0.5)}}}, {"one &lt;b&gt;": ["0.5"]}),
        (
            {"given_video": {"event_iou": figure(0.75)}, "given_audio": {"event_iou": figure(None)}},
            {"given video": ["0.75"], "given audio": ["-"]},
        ),
        (
            {"logit": {**figure(1.5), "levels": [figure(0.3)], "shuffled": figure(-2.5)}},
            {"logit": ["1.5"], "logit, shuffled pairs": ["-2.5"]},
        ),
        ({"parameters": {"bases": 1200, "ratio": None}}, {"parameters, bases": ["1,200"]}),
        ({"residual_error": 0.25, "by_level": {"log_snr": [1.0, 2.0]}}, {"residual error": ["0.25"]}),
        ({"health": {"real": {"n": 3}}, "nothing": None}, {}),
    ],
)
def test_classes_variants_and_what_stands_by_itself_have_tables_of_their_own(
    metrics: dict[str, Any], expected: dict[str, list[str]]
) -> None:
    assert cells_of(tables_html(metrics)) == expected
    assert all(rows_of(name, found) == {} for name, found in metrics.items())


def test_what_has_no_figures_has_no_table() -> None:
    assert tables_html({}) == tables_html({"by_level": {"log_snr": [1.0]}}) == ""
