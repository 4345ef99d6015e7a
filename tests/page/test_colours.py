"""Text on a page can be read: its colours stand out from what is behind them, by light and in the dark."""

import re
from importlib.resources import files
from itertools import product

import pytest

LEAST = 4.5
"""Contrast that WCAG 2.1 requires of text at level AA."""
BEHIND = ("paper", "card")
NEVER_TEXT = ("paper", "card", "line")


def schemes():
    """Return the colours of the page by name, those of light first."""
    style = (files("mmdisco_cli.page") / "page.css").read_text(encoding="utf-8")
    light, dark = (dict(re.findall(r"--(\w+): (#\w+)", block)) for block in re.findall(r":root \{(.*?)\}", style))
    return {"light": light, "dark": light | dark}


def luminance(colour):
    digits = colour.lstrip("#")
    digits = "".join(2 * digit for digit in digits) if len(digits) == 3 else digits
    red, green, blue = (int(digits[k : k + 2], 16) / 255 for k in (0, 2, 4))
    linear = [c / 12.92 if c <= 0.03928 else ((c + 0.055) / 1.055) ** 2.4 for c in (red, green, blue)]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one, other):
    light, dark = sorted((luminance(one), luminance(other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def test_contrast_is_that_of_the_standard():
    assert contrast("#fff", "#000") == pytest.approx(21)
    assert contrast("#777777", "#ffffff") == pytest.approx(4.48, abs=0.01)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_colour_that_writes_or_marks_stands_out(scheme):
    colours = schemes()[scheme]
    written = [name for name in colours if name not in NEVER_TEXT]
    assert {"ink", "soft", "real", "independent", "guided", "good", "bad", "seen", "heard"} <= set(written)
    found = {(name, behind): contrast(colours[name], colours[behind]) for name, behind in product(written, BEHIND)}
    assert {pair: round(value, 2) for pair, value in found.items() if value < LEAST} == {}


def properties(name):
    """Return (class, property) of the rules for a class alone, of which a later rule replaces an earlier one."""
    style = (files("mmdisco_cli.page") / name).read_text(encoding="utf-8").partition("@media (max-width")[0]
    rules = re.findall(r"(?:^|[}\n])\s*\.(\w+) \{([^{}]*)\}", style)
    return {(of, part.partition(":")[0].strip()) for of, body in rules for part in body.split(";") if part.strip()}


def test_no_class_of_the_page_of_a_training_means_another_thing_on_all_pages():
    # The bar of the steps once cut the controls of clips, which are a bar too, down to six pixels.
    assert {of for of, _ in properties("page.css")} >= {"bar", "panel", "prompt"}
    assert {of for of, _ in properties("progress.css")} >= {"done", "legend", "prompt"}
    assert properties("page.css") & properties("progress.css") == set()


def test_text_has_no_colour_of_its_own():
    style = (files("mmdisco_cli.page") / "page.css").read_text(encoding="utf-8")
    used = re.findall(r"[{;]\s*(?:color|fill): ([^;}]+)", style)
    assert used
    assert {
        colour for colour in used if not re.fullmatch(r"var\(--\w+(, var\(--\w+\))?\)|inherit|none", colour.strip())
    } == set()
    # What is text is never faded: opacity would take contrast away.
    faded = re.findall(r"([^{}]+)\{[^}]*opacity: [^}]*\}", style)
    assert all(re.search(r"\.(reach|chance)|circle", selector) for selector in faded)
