"""Choose the converter for a source."""

from mmdisco_cli.commands.options import ConvertOptions
from mmdisco_cli.errors import UsageError


def convert(options: ConvertOptions) -> None:
    """Convert a source into what mmdisco reads.

    Raises:
        UsageError: there is no converter for it.
    """
    what = f"format {options.format!r}" if options.format else str(options.source)
    raise UsageError(f"no converter for {what}: this version has none")
