"""Let these tests import what is kept of the released code, which importlib mode does not offer."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent / "released"))
