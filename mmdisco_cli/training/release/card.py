"""The model card: what the weights are, what they reached, what they stand on, and how to sample with them."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import yaml

from mmdisco_cli.recipes.schema import Recipe
from mmdisco_cli.training.release.bases import BaseModel

CARD = "README.md"
HOME = "OWNER/NAME"
"""Stands for the repository, which is not known before it is made."""

MEANINGS = {
    "accuracy": "share of real and mixed tuples that are classified rightly, a half by chance",
    "disc": "classification loss of Eq. (4), 1.386 by chance",
    "denoise": "denoising loss of Eq. (5)",
    "gain": "share of the base models' error that guidance removes",
    "interaction": "how far the logit depends on the pair, 0 for a sum of functions of one modality each",
}


def model_card(recipe: Recipe, about: Mapping[str, Any], bases: Sequence[BaseModel], own: Mapping[str, str]) -> str:
    """Return the card of published weights as Markdown, with the front matter that the hub reads."""
    parts = [
        _front(recipe, bases),
        f"# {recipe.name}\n\n{recipe.summary or 'Weights trained with mmdisco.'}\n\n{_what(recipe, about)}",
        f"## Sampling\n\n{_sampling(recipe, bases)}",
        f"## What it reached\n\n{_results(about.get('results', {}))}",
        f"## Base models\n\n{_bases(bases, own)}" if recipe.train.target == "discriminator" else "",
        f"## Licence\n\n{_licence()}",
        f"## Made with\n\n{_versions(about)}",
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _front(recipe: Recipe, bases: Sequence[BaseModel]) -> str:
    hub = sorted({name for base in bases for name in base.hub})
    content: dict[str, Any] = {
        "license": "other",
        "library_name": "mmdisco",
        "tags": ["diffusion", "joint-generation", *recipe.modalities],
        **({"base_model": hub} if hub else {}),
    }
    return f"---\n{yaml.safe_dump(content, sort_keys=False)}---"


def _what(recipe: Recipe, about: Mapping[str, Any]) -> str:
    modalities = " and ".join(recipe.modalities)
    if recipe.train.target == "backbone":
        return f"A base model of {about.get('modality', modalities)}, trained for {recipe.train.steps} steps."
    return (
        f"A discriminator (`{about['name']}`) whose gradient guides {len(recipe.backbones)} pre-trained models to "
        f"samples of {modalities} that belong together, after [MMDisCo](https://arxiv.org/abs/2405.17842); "
        f"trained for {recipe.train.steps} steps. `recipe.yaml` is the whole recipe."
    )


def _sampling(recipe: Recipe, bases: Sequence[BaseModel]) -> str:
    if recipe.train.target == "backbone":
        lines = [f"hf download {HOME} --local-dir {recipe.name}"]
        lines += [f"# then, in a recipe: weights: {recipe.name}/backbone.safetensors"]
    else:
        lines = sorted({f"# {base.install}" for base in bases if base.install})
        lines += [f"mmdisco sample --checkpoint hf:{HOME} --download --n 16"]
    return "\n".join(["```console", *lines, "```", "", f"with the name of this repository in place of {HOME}."])


def _results(results: Mapping[str, Any]) -> str:
    figures = dict(_flat(results))
    if not figures:
        return "Nothing was measured."
    shown = {name.rsplit(", ", 1)[-1] for name in figures}
    meanings = "; ".join(f"`{name}`: {meaning}" for name, meaning in MEANINGS.items() if name in shown)
    rows = [f"| {name} | {value} |" for name, value in figures.items()]
    return "\n".join(["| figure | value |", "|---|---|", *rows]) + (f"\n\n{meanings}." if meanings else "")


def _flat(content: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in content.items():
        name = f"{above}{key}"
        if isinstance(value, Mapping):
            yield from _flat(value, f"{name}, ")
        else:
            yield name, value


def _bases(bases: Sequence[BaseModel], own: Mapping[str, str]) -> str:
    lines = []
    for base in bases:
        lines.append(f"- `{base.label}`: {base.name}, fingerprint {base.fingerprint or 'unknown'}")
        here = f"; in this folder as `{own[base.label]}`" if base.label in own else ""
        lines += [f"  - {file}{here}" for file in base.files]
    return "\n".join(lines)


def _licence() -> str:
    return (
        "None has been chosen for these weights: whoever publishes them sets `license` above. The licences of the base "
        "models, and of the clips that were trained on, may bind it."
    )


def _versions(about: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {version}" for name, version in about.get("versions", {}).items())
