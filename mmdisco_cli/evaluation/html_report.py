"""report.html: one page that needs nothing but itself: the conclusion, the figures as plots, the clips to play."""

import json
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from mmdisco_cli.evaluation.html_tables import health_html, rows_of, tables_html
from mmdisco_cli.evaluation.protocol import Report
from mmdisco_cli.evaluation.report_cards import ROWS, cards_of
from mmdisco_cli.evaluation.sample_cards import cards_of_samples, samples_html
from mmdisco_cli.evaluation.verdict.conclusion import LEADING, Conclusion, conclude
from mmdisco_cli.measures.density import DEFINITION
from mmdisco_cli.measures.names import better
from mmdisco_cli.measures.scoring import ScoredClip
from mmdisco_cli.page.cards import CHANCE, Card, card_html, key_html, sorting_html
from mmdisco_cli.page.charts import NONE, Place, curve_panel, dots_panel, figure_html, interval_panel, short, way_html
from mmdisco_cli.page.embedding import image_address
from mmdisco_cli.page.naming import heading, spelt
from mmdisco_cli.page.shell import document
from mmdisco_cli.run.files import write_text

REPORT_FILE = "report.html"
NOTES = {
    "event_iou": "events in video and audio within 50 ms, over all events",
    "kind_correlation": "size in the video against lowness of pitch",
    "material_agreement": "matched events whose look and sound are of one material; the stroke: chance",
    "events_seen": "impacts a clip, as detected in its video",
    "events_heard": "impacts a clip, as detected in its audio",
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
    "agreement": "samples whose modalities are all judged to be one digit",
    "kd_audio": "kernel distance of a judge's features of audio to real ones",
    "kd_image": "kernel distance of a judge's features of images to real ones",
    "mass_on_modes": "samples within 3.5 deviations of a mode of the true joint distribution",
    "sliced_wasserstein": "sliced 2-Wasserstein distance to samples of the true joint distribution",
    "joint_error": "relative error of the joint score at the levels of the sampler, of which 0 is the truth",
    "text_seen": "clips whose video shows just the balls of the caption",
    "text_heard": "clips whose audio has just the balls of the caption",
    **{
        f"{name}_{sense}": f"clips whose {part} has the {name} of the caption"
        for name in ("number", "sizes", "materials")
        for sense, part in (("seen", "video"), ("heard", "audio"))
    },
    "desync": "seconds by which Synchformer finds audio and video apart",
}
OF_LEVELS = {
    "accuracy": "share of real and of shuffled pairs that are classified correctly; one half is chance (dashed)",
    "interaction": "share of the logit's variance that no modality explains by itself",
}
CHANCE_OF_LEVELS = {"accuracy": 0.5}
FIXED_CHANCE = {"material_agreement": 1 / 3}
"""What chance reaches in any set."""
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
        images_html(report.files),
        tables_html(metrics),
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
        interval_panel(heading(name), _note(name), rows, _chance(name, rows, metrics), better(name))
        for name, figures in metrics.items()
        if name not in CHANCE.values() and (rows := rows_of(name, figures))
    ]
    column = (LEADING[conclusion.metric].column if conclusion.metric else "") or "av_align"
    values = {row: [v for c in clips if c.row == row and (v := c.values.get(column)) is not None] for row in ROWS}
    panels.append(dots_panel(f"{heading(column)}, every clip", values, better(column)))
    panels += [_by_level_html(name, metrics.get(name)) for name in ("accuracy", "interaction")]
    if not any(panels):
        return ""
    return f'<h2>Figures</h2>\n<p class="note">{BARS}</p>\n<div class="panels">{"".join(panels)}</div>\n'


def _by_level_html(name: str, figures: Any) -> str:
    """Return a curve of a figure of the discriminator over noise levels, with its intervals."""
    levels = [one for one in (figures or {}).get("levels", []) if one["value"] is not None]
    if not levels:
        return ""
    first = next(iter(levels[0]["log_snr"]))
    places = [Place(one["log_snr"][first], one["value"], one["low"], one["high"]) for one in levels]
    note = f"{figure_html(figures)} where it guides; {OF_LEVELS[name]}; with 95 % intervals, from noise to data"
    half = CHANCE_OF_LEVELS.get(name)
    return curve_panel(f"Discriminator: {name}", note, places, half, better(name), x=f"log-SNR of {first}")


def images_html(files: Sequence[Path]) -> str:
    """Return the plots that a protocol drew of its figures, each inside the page."""
    shown = "".join(
        f'<div class="scroll" tabindex="0" role="region" aria-label="{escape(path.stem)}"><img class="plot" '
        f'src="{image_address(path)}" alt="{escape(heading(path.stem))}: plot; its figures stand in the tables below">'
        f"</div>"
        for path in files
        if path.suffix == ".png"
    )
    return f"<h2>Plots</h2>\n{shown}\n" if shown else ""


def _chance(name: str, rows: Mapping[str, Any], metrics: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return by row what chance reaches, where that is known."""
    if name in FIXED_CHANCE:
        return {row: {"value": FIXED_CHANCE[name]} for row in rows}
    return rows_of(name, metrics.get(CHANCE.get(name, ""), {}))


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


def _note(name: str) -> str:
    """Return what a figure is, in words."""
    measure, _, features = name.partition("_")
    if measure in DEFINITION:
        return f"{DEFINITION[measure]}; {spelt(features)}"
    return NOTES.get(name, "")


def _tiles_name(metric: str | None) -> str:
    return f'<p class="note">{escape(heading(metric))}{way_html(better(metric))}</p>' if metric else ""


def _value(figure: Mapping[str, Any]) -> str:
    return NONE if figure.get("value") is None else short(figure["value"])


def _interval(figure: Mapping[str, Any]) -> str:
    return f"{short(figure['low'])} to {short(figure['high'])}" if figure.get("low") is not None else "no interval"


def _plain(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def _json(content: Mapping[str, Any]) -> str:
    return json.dumps(content, indent=1, ensure_ascii=False)
