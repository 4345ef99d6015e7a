"""What to write instead, for command lines that the parser refuses: what newcomers type first."""

import re
from typing import Any

from mmdisco_cli.errors import MMDiscoError

_GUESS = re.compile(r" \(Possible options: .*\)$")
_EXTRA = re.compile(r"unexpected extra argument(?:s|\(s\))? \((.*)\)")


def explain(error: Any) -> str:
    """Return a usage error of the parser in one line, with what to write instead where that is clear."""
    text = " ".join(error.format_message().split())
    context = getattr(error, "ctx", None)
    hint = _hint(error, text, context) if context is not None else ""
    return f"{_GUESS.sub('', text).removesuffix('.')} ({hint})" if hint else text


def _hint(error: Any, text: str, context: Any) -> str:
    known = getattr(context.command, "commands", {})
    if text.startswith(("Missing command", "No such command")):
        return "" if "Did you mean" in text else f"known: {', '.join(known)}"
    options = {name for option in context.command.params for name in option.opts}
    if text.startswith("No such option"):
        return _as_key(str(error.option_name), str(context.info_name)) if "--set" in options else ""
    if text.startswith("Missing option '--recipe'"):
        return "as --recipe bounce; `mmdisco recipes ls` lists them"
    extra = _EXTRA.search(text)
    return _as_recipe(extra[1]) if extra and "--recipe" in options else ""


def _as_key(option: str, command: str) -> str:
    """Say which keys of a recipe are called like an option that does not exist, those of the command alone if any."""
    from mmdisco_cli.recipes.reference import recipe_keys

    wanted = option.lstrip("-").replace("-", "_")
    found = [key.key for key in recipe_keys() if key.key.rpartition(".")[2] == wanted]
    own = [key for key in found if key == f"{command}.{wanted}"]
    return f"a key of the recipe: {' or '.join(f'--set {key}=VALUE' for key in own or found)}" if found else ""


def _as_recipe(words: str) -> str:
    """Say how a recipe is named, where a word is one."""
    from mmdisco_cli.recipes.recipe import find

    for word in words.split():
        try:
            find(word)
        except (MMDiscoError, OSError):
            continue
        return f"a recipe is given as --recipe {word}"
    return ""
