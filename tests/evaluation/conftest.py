"""Let the tests of evaluation import the small models that stand beside them."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
for folder in ("data", "measures"):
    sys.path.insert(0, str(Path(__file__).parent.parent / folder))
