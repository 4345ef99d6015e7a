"""report.html: one page that needs nothing but itself: the conclusion, the figures as plots, the clips to play."""

import json
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from mmdisco_cli.evaluation.protocol import Report
from mmdisco_cli.evaluation.report_cards import ROWS, cards_of
from mmdisco_cli.evaluation.sample_cards import cards_of_samples, samples_html
from mmdisco_cli.evaluation.verdict.conclusion import LEADING, Conclusion, conclude
from mmdisco_cli.measures.density import DEFINITION
from mmdisco_cli.measures.distances import source_of
from mmdisco_cli.measures.health import FLAGS
from mmdisco_cli.measures.names import better
from mmdisco_cli.measures.scoring import ScoredClip
from mmdisco_cli.page.cards import CHANCE, Card, card_html, key_html, sorting_html
from mmdisco_cli.page.charts import NONE, curve_panel, dots_panel, figure_html, interval_panel, short, way_html
from mmdisco_cli.page.naming import heading, spelt
from mmdisco_cli.page.shell import document
from mmdisco_cli.run.files import write_text

REPORT_FILE = "report.html"
FEW = dict.fromkeys(("unusable", *FLAGS, "largest_gap"), "lower")
"""Columns of the table of health, of which none are wanted."""
DIGITS = 16
"""Of a hash; the whole of it stands in metrics.json."""
NOTES = {
    "event_iou": "events in video and audio within 50 ms, over all events",
    "kind_correlation": "size in the video against lowness of pitch",
    "material_agreement": "matched events that look and sound of one material; a third is chance",
    "av_align": "onsets that meet motion peaks, over all of both; the stroke: mismatched pairs",
    "av_align_gain": "AV-Align less its value for mismatched pairs",
    "av_lag": "seconds by which audio is late",
    "fd_logmel": "Frechet distance of log-mel statistics to real clips",
    "kd_logmel": "kernel distance of log-mel statistics to real clips",
    "kd_frames": "kernel distance of colours to real clips",
    "kd_motion": "kernel distance of movement to real clips",
    "fad_audioclip_x1e4": "the distance above in the unit of MM-Diffusion's tables",
    "fad_audioclip_mm_diffusion": "in float32 with its root of tiny values, times 1e4: not zero for a set and itself",
    "fvd_mm_diffusion": "in float32 with its root of tiny values",
    "imagebind": "cosine of video and audio, as it is; higher is nearer",
    "desync": "seconds by which Synchformer finds audio and video apart",
}
BARS = "Bars are 95 % intervals, bootstrap by clip. Scales begin at 0; where they cannot, a thin upright line is 0."


def write_report(path: Path, content: Mapping[str, Any], report: Report) -> Path:
    """Write the page of a report; raise DataError where it cannot be written."""
    metrics, clips = content["metrics"], report.clips
    conclusion = conclude(metrics)
    cards, samples = cards_of(report, conclusion), cards_of_samples(report.samples)
    title = f"{content['recipe'] or 'clips'}: evaluation"
    sections = (
        _head(title, content, report),
        conclusion_html(conclusion, metrics) if conclusion.metric or clips else "",
        warnings_html(content.get("warnings", ())),
        plots_html(metrics, clips, conclusion),
        table_html(metrics),
        health_html(metrics, content["protocol"]),
        clips_html(cards, clips) if cards or not samples else "",
        samples_html(samples, report.samples, sortable=not cards),
        f"<details><summary>How this was measured</summary><pre>{escape(_json(content['protocol']))}</pre></details>\n",
    )
    write_text(path, document(title, "".join(sections), alone=True))
    return path


def conclusion_html(conclusion: Conclusion, metrics: Mapping[str, Any]) -> str:
    """Return the sentence that the page opens with, and the figures that it rests on."""
    mood = {True: "good", False: "bad", None: ""}[conclusion.good]
    rows = metrics.get(conclusion.metric, {}) if conclusion.metric else {}
    tiles = "".join(
        f'<div class="tile row-{row}"><span>{row}</span><b>{_value(rows[row])}</b>'
        f"<span>{_interval(rows[row])}</span></div>"
        for row in ("guided", "samples", "independent", "real")
        if rows.get(row)
    )
    because = "".join(f'<p class="because">{escape(text)}</p>' for text in conclusion.lines[1:])
    return (
        f'<section class="verdict {mood}"><p class="says">{escape(conclusion.says)}</p>'
        f"{because}"
        f'{_tiles_name(conclusion.metric)}<div class="tiles">{tiles}</div></section>\n'
    )


def warnings_html(lines: Sequence[str]) -> str:
    """Return the signs of failure that the figures show, each with what to try; empty where there are none."""
    shown = "".join(f"<li>{escape(line)}</li>" for line in lines)
    return f'<section class="warnings"><h2>Warnings</h2><ul>{shown}</ul></section>\n' if lines else ""


def plots_html(metrics: Mapping[str, Any], clips: Sequence[ScoredClip], conclusion: Conclusion) -> str:
    """Return a plot a metric, the clips one by one, and the discriminator over noise levels."""
    panels = [
        interval_panel(
            heading(name), _note(name), _rows(figures), _rows(metrics.get(CHANCE.get(name, ""), {})), better(name)
        )
        for name, figures in metrics.items()
        if name not in CHANCE.values() and isinstance(figures, Mapping) and _rows(figures)
    ]
    column = (LEADING[conclusion.metric].column if conclusion.metric else "") or "av_align"
    values = {row: [v for c in clips if c.row == row and (v := c.values.get(column)) is not None] for row in ROWS}
    panels.append(dots_panel(f"{heading(column)}, every clip", values, better(column)))
    for name, half in (("accuracy", 0.5), ("interaction", None)):
        levels = (metrics.get(name) or {}).get("levels", [])
        points = [(next(iter(one["log_snr"].values())), one["value"]) for one in levels if one["value"] is not None]
        panels.append(
            curve_panel(f"Discriminator: {name}", "over log-SNR, from noise to data", points, half, better(name))
        )
    return f'<h2>Figures</h2>\n<p class="note">{BARS}</p>\n<div class="panels">{"".join(panels)}</div>\n'


def table_html(metrics: Mapping[str, Any]) -> str:
    """Return every figure in a table, with the sizes without which a distance says nothing."""
    named = {name: _rows(figures) for name, figures in metrics.items() if isinstance(figures, Mapping)}
    rows = [row for row in ROWS if any(row in figures for figures in named.values())]
    head = "".join(f'<th scope="col">{row}</th>' for row in rows)
    body = "".join(
        f'<tr><th scope="row">{_title(name)}{way_html(better(name))}{_source(name, metrics[name])}</th>'
        f"{''.join(f'<td>{_sized(figures.get(row))}</td>' for row in rows)}</tr>"
        for name, figures in named.items()
        if figures
    )
    return f"<h2>All figures</h2>\n{_table('Every figure by row of clips', head, body)}\n"


def health_html(metrics: Mapping[str, Any], protocol: Mapping[str, Any]) -> str:
    """Return what is odd about the clips as files, and every one that could not be used, with its reason."""
    rows = metrics.get("health") or {}
    if not rows:
        return ""
    columns = ("n", "unusable", *FLAGS, "largest_gap")
    head = "".join(f'<th scope="col">{_title(name)}{way_html(FEW.get(name, ""))}</th>' for name in columns)
    body = "".join(
        f'<tr><th scope="row">{escape(row)}</th>{"".join(f"<td>{found[name]}</td>" for name in columns)}</tr>'
        for row, found in rows.items()
    )
    bad = "".join(f"<li>{escape(one['path'])}: {escape(one['reason'])}</li>" for one in protocol.get("unusable", ()))
    listed = f"<details open><summary>Left out</summary><ul>{bad}</ul></details>" if bad else ""
    return f"<h2>Health of the clips</h2>\n{_table('Clips with each flag by row', head, body)}{listed}\n"


def clips_html(cards: Sequence[Card], clips: Sequence[ScoredClip]) -> str:
    """Return the clips to play, and what they can be sorted by."""
    if not cards:
        return "<main></main>"
    total = max(sum(clip.row == row for clip in clips) for row in ROWS)
    few = f"{len(cards)} of {total}: the best, the worst and some between" if len(cards) < total else f"all {total}"
    known = any("events_seen" in clip.values for clip in clips)
    motion, onsets = ("events seen", "events heard") if known else ("motion peaks", "onsets")
    shown = "".join(card_html(card, index) for index, card in enumerate(cards))
    return (
        f'<h2>Clips</h2>\n<div class="bar-top"><p class="note key">{few}{key_html(motion, onsets)}</p>'
        f'<form autocomplete="off">{sorting_html(cards, {})}</form></div>\n'
        f'<main class="wide">\n{shown}</main>\n'
    )


def _head(title: str, content: Mapping[str, Any], report: Report) -> str:
    protocol = content["protocol"]
    about = [f"{report.n} samples a row", f"protocol {protocol['name']}", f"seed {protocol['seed']}"]
    about += [protocol["captions"]] if protocol.get("captions") else []
    if isinstance(protocol.get("av_align"), Mapping):
        how = protocol["av_align"]
        about.append(f"AV-Align {how['rule']} at {how['shorter_side']} px, {_plain(how['fps'])} frames a second")
    return f"<header><div><h1>{escape(title)}</h1><p>{escape(' · '.join(about))}</p></div></header>\n"


def _rows(figures: Mapping[str, Any]) -> dict[str, Any]:
    return {row: found for row in ROWS if isinstance(found := figures.get(row), Mapping) and "value" in found}


def _table(caption: str, head: str, body: str) -> str:
    # Focusable, so that it scrolls by keys too.
    frame = f'<div class="scroll" tabindex="0" role="region" aria-label="{escape(caption)}">'
    return f"{frame}<table><thead><tr><td></td>{head}</tr></thead><tbody>{body}</tbody></table></div>"


def _note(name: str) -> str:
    """Return what a figure is, in words."""
    measure, _, features = name.partition("_")
    if measure in DEFINITION:
        return f"{DEFINITION[measure]}; {spelt(features)}"
    return NOTES.get(name, "")


def _tiles_name(metric: str | None) -> str:
    return f'<p class="note">{escape(heading(metric))}{way_html(better(metric))}</p>' if metric else ""


def _sized(figure: Mapping[str, Any] | None) -> str:
    shown = figure_html(figure)
    if not figure or "dimension" not in figure:
        return shown
    return f"{shown}<br><small>n {figure['n']}, reference {figure['n_reference']}, D {figure['dimension']}</small>"


def _source(name: str, figures: Mapping[str, Any]) -> str:
    """Return the network and the weights that a figure comes from."""
    source = source_of(name, figures, DIGITS)
    return f'<br><small class="source">{escape(source)}</small>' if source else ""


def _value(figure: Mapping[str, Any]) -> str:
    return NONE if figure.get("value") is None else short(figure["value"])


def _interval(figure: Mapping[str, Any]) -> str:
    return f"{short(figure['low'])} to {short(figure['high'])}" if figure.get("low") is not None else "no interval"


def _title(name: str) -> str:
    return escape(spelt(name))


def _plain(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def _json(content: Mapping[str, Any]) -> str:
    return json.dumps(content, indent=1, ensure_ascii=False)
