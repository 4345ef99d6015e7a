"""Where the few real digits of the tests lie."""

from pathlib import Path

ASSETS = Path(__file__).parent / "assets"
