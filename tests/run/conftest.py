"""Let the tests of this folder import the helper beside them, which pytest's importlib mode does not offer."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
