"""The frame of every page: one file with its style and scripts, in which nothing else runs."""

import base64
import hashlib
from collections.abc import Sequence
from html import escape
from importlib.resources import files

ALONE = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; media-src data: blob:; "


def asset(name: str) -> str:
    """Return a file of this folder that pages hold: a style or a script."""
    return (files("mmdisco_cli.page") / name).read_text(encoding="utf-8")


def document(title: str, body: str, *, alone: bool, more: str = "", scripts: Sequence[str] = ()) -> str:
    """Return a page; `alone` forbids it to load anything that it does not hold.

    `more` are further style rules, `scripts` run before that of every page. What a kind's card or a file brings along
    of scripts, by mistake or not, is not run.
    """
    style, run = asset("page.css") + more, [*scripts, asset("page.js")]
    policy = f"{ALONE if alone else ''}script-src {' '.join(map(_source, run))}"
    elements = "".join(f"<script>\n{script}</script>\n" for script in run)
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{policy}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<link rel="icon" href="data:,">
<title>{escape(title)}</title>
<style>
{style}</style>
</head>
<body>
{body}{elements}</body>
</html>
"""


def _source(script: str) -> str:
    """Return what a policy calls a script that stands in its page."""
    digest = hashlib.sha256(f"\n{script}".encode()).digest()
    return f"'sha256-{base64.b64encode(digest).decode()}'"
