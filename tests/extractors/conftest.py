"""Let the tests of extractors import what stands beside them, and the small models of evaluation."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
for folder in ("data", "evaluation"):
    sys.path.insert(0, str(Path(__file__).parent.parent / folder))
