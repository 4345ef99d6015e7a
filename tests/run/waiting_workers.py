"""A process that works for another, for tests that start it."""

import time
from multiprocessing.connection import Connection

from mmdisco_cli.run.processes import ignore_signals


def wait_for_signals(ready: Connection) -> None:
    ignore_signals()
    ready.send(True)
    time.sleep(600)
