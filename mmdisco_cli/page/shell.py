"""The frame of every page: one file with its style and script, which loads nothing."""

from html import escape
from importlib.resources import files

ALONE = (
    "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; img-src data:; media-src data: blob:"
)


def asset(name: str) -> str:
    """Return a file of this folder that pages hold: a style or a script."""
    return (files("mmdisco_cli.page") / name).read_text(encoding="utf-8")


def document(title: str, body: str, *, alone: bool, more: str = "") -> str:
    """Return a page; `alone` forbids it to load anything that it does not hold, `more` are further style rules."""
    style, script = asset("page.css") + more, asset("page.js")
    policy = f'<meta http-equiv="Content-Security-Policy" content="{ALONE}">\n' if alone else ""
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
{policy}<meta name="viewport" content="width=device-width, initial-scale=1">
<link rel="icon" href="data:,">
<title>{escape(title)}</title>
<style>
{style}</style>
</head>
<body>
{body}<script>
{script}</script>
</body>
</html>
"""
