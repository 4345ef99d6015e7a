"""`--metrics`: which names there are."""

from collections.abc import Collection, Iterable
from difflib import get_close_matches

from mmdisco_cli.errors import UsageError


def require_known(names: Iterable[str], known: Collection[str], *, of_films: bool = False) -> None:
    """Raise UsageError for a name that is not among those known, all of which it lists.

    `of_films` says that extractors may add some.
    """
    for name in names:
        if name in known:
            continue
        if not known:
            raise UsageError(f"--metrics {name}: there is nothing to choose from")
        close = get_close_matches(name, known)
        meant = f"did you mean {' or '.join(close)}? " if close else ""
        further = ", and what an --extractor adds" if of_films else ""
        raise UsageError(f"--metrics {name}: unknown ({meant}known: {', '.join(known)}{further})")
