"""Run as `mmdisco` or, under torchrun, as `python -m mmdisco_cli`."""

import sys

from mmdisco_cli.app import run


def main() -> None:
    """Run the command line and exit with its code."""
    sys.exit(run())


if __name__ == "__main__":
    main()
