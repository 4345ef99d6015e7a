"""How a plugin of this project is installed, for every line that tells it."""


def how_to_install(distribution: str) -> str:
    """Return the command that installs one of the project's plugins, and where it runs.

    It names a path: the project's names are on no index, so that one by itself would install whatever somebody else
    puts there under it.
    """
    return f"in a clone of mmdisco: pip install ./plugins/{distribution}"
