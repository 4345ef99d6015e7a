"""The names and shapes of the tensors of MM-Diffusion's two networks, from a handful of sizes.

The coupled U-Net of Ruan et al. 2023 (arXiv 2212.09478), and the image U-Net of Dhariwal & Nichol 2021
(arXiv 2105.05233) that enlarges its frames.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

Shape = tuple[int, ...]
Shapes = dict[str, Shape]


@dataclass(frozen=True)
class UNetSizes:
    """What tells one U-Net of a family from another."""

    channels: int
    multipliers: tuple[int, ...]
    blocks: int
    inputs: tuple[int, ...]  # (video, audio) channels of the coupled one, (images beside one another,) of the other
    attention: frozenset[int]  # levels with attention

    @property
    def levels(self) -> int:
        """The number of levels."""
        return len(self.multipliers)


MOST_STAGES = 100
RELEASED_COUPLED = UNetSizes(128, (1, 2, 3, 4), 2, (3, 1), frozenset({1, 2, 3}))
RELEASED_ENLARGER = UNetSizes(192, (1, 1, 2, 2, 4, 4), 2, (6,), frozenset({3, 4, 5}))


def coupled_shapes(sizes: UNetSizes) -> Shapes:
    """Return the tensors of the coupled audio and video U-Net."""
    c, (video, audio) = sizes.channels, sizes.inputs
    found = _linear("time_embed.0", c, c) | _linear("time_embed.2", c, c)
    found |= _frames("input_blocks.0.0.video_conv", video, c) | _sound("input_blocks.0.0.audio_conv", audio, c, 3)

    def block(name: str, inner: int, outer: int, attentive: bool) -> Shapes:
        tensors = _coupled_block(f"{name}.0", inner, outer, c, ("spatial", "temporal") if attentive else ())
        return tensors | (_cross(f"{name}.1", outer) if attentive else {})

    def resample(name: str, width: int) -> Shapes:
        return _coupled_block(name, width, width, c, ())

    found |= _stages(sizes, block, resample)
    deep = sizes.multipliers[-1] * c
    for k in (0, 2):
        found |= _coupled_block(f"middle_blocks.{k}", deep, deep, c, ("spatial", "temporal", "audio"))
    found |= _cross("middle_blocks.1", deep)
    found |= _norm("video_out.0.GroupNorm", c) | _norm("audio_out.0.GroupNorm", c)
    found |= _conv("video_out.2.video_conv", c, video, (3, 3, 3))
    return found | _sound("audio_out.2", c, audio, 3)


def enlarger_shapes(sizes: UNetSizes) -> Shapes:
    """Return the tensors of the image U-Net that enlarges frames; it also predicts a variance."""
    c, level = sizes.channels, 4 * sizes.channels
    found = _linear("time_embed.0", c, level) | _linear("time_embed.2", level, level)
    found |= _conv("input_blocks.0.0", sizes.inputs[0], c, (3, 3))

    def block(name: str, inner: int, outer: int, attentive: bool) -> Shapes:
        return _image_block(f"{name}.0", inner, outer, level) | (_attention(f"{name}.1", outer) if attentive else {})

    def resample(name: str, width: int) -> Shapes:
        return _image_block(name, width, width, level)

    found |= _stages(sizes, block, resample)
    deep = sizes.multipliers[-1] * c
    found |= _image_block("middle_block.0", deep, deep, level) | _attention("middle_block.1", deep)
    found |= _image_block("middle_block.2", deep, deep, level)
    return found | _norm("out.0", c) | _conv("out.2", c, sizes.inputs[0], (3, 3))


def sizes_of(shapes: Mapping[str, Sequence[int]], coupled: bool) -> UNetSizes:
    """Read the sizes off the shapes of the tensors themselves.

    Raises:
        KeyError, ValueError, IndexError: too much is missing, or does not go together.
    """
    stem, attends = "input_blocks.0.0", "v_qkv.weight" if coupled else "qkv.weight"
    if coupled:
        width, video = shapes[f"{stem}.video_conv.video_conv_spatial.weight"][:2]
        inputs: tuple[int, ...] = (video, shapes[f"{stem}.audio_conv.audio_conv.weight"][1])
    else:
        width, images = shapes[f"{stem}.weight"][:2]
        inputs = (images,)
    stages = 1 + max(int(name.split(".")[1]) for name in shapes if name.startswith("output_blocks."))
    if stages > MOST_STAGES:
        raise ValueError(f"{stages} stages are more than a U-Net has")
    ups = sum(_blocks_in(shapes, f"output_blocks.{stage}.") == 2 for stage in range(stages))
    blocks = stages // (ups + 1) - 1
    firsts = [1 + level * (blocks + 1) for level in range(ups + 1)]
    multipliers = [shapes[f"input_blocks.{k}.0.emb_layers.1.bias"][0] // (2 * width) for k in firsts]
    attention = {level for level, k in enumerate(firsts) if f"input_blocks.{k}.1.{attends}" in shapes}
    return UNetSizes(width, tuple(multipliers), blocks, inputs, frozenset(attention))


def _blocks_in(shapes: Mapping[str, Sequence[int]], stage: str) -> int:
    return sum(name.startswith(stage) and name.endswith("emb_layers.1.bias") for name in shapes)


def _stages(
    sizes: UNetSizes,
    block: Callable[[str, int, int, bool], Shapes],
    resample: Callable[[str, int], Shapes],
) -> Shapes:
    """Return the tensors of the stages down and up, the latter with what was kept on the way down beside them."""
    found, width, kept = Shapes(), sizes.channels, [sizes.channels]
    for level, multiplier in enumerate(sizes.multipliers):
        for _ in range(sizes.blocks):
            outer = multiplier * sizes.channels
            found |= block(f"input_blocks.{len(kept)}", width, outer, level in sizes.attention)
            width = outer
            kept.append(width)
        if level < sizes.levels - 1:
            found |= resample(f"input_blocks.{len(kept)}.0", width)
            kept.append(width)
    for stage, (level, last) in enumerate(_upwards(sizes)):
        outer, attentive = sizes.multipliers[level] * sizes.channels, level in sizes.attention
        found |= block(f"output_blocks.{stage}", width + kept.pop(), outer, attentive)
        width = outer
        if last and level:
            # It stands behind the block and, where there is one, its attention.
            found |= resample(f"output_blocks.{stage}.{1 + attentive}", width)
    return found


def _upwards(sizes: UNetSizes) -> Iterator[tuple[int, bool]]:
    """Yield the level of each stage up, and whether it is the last of its level."""
    for level in reversed(range(sizes.levels)):
        for k in range(sizes.blocks + 1):
            yield level, k == sizes.blocks


def _coupled_block(name: str, inner: int, outer: int, level: int, attentions: Sequence[str]) -> Shapes:
    found = _norm(f"{name}.video_in_layers.0.GroupNorm", inner) | _norm(f"{name}.audio_in_layers.0.GroupNorm", inner)
    found |= _frames(f"{name}.video_in_layers.2", inner, outer) | _sound(f"{name}.audio_in_layers.2", inner, outer, 3)
    found |= _linear(f"{name}.emb_layers.1", level, 2 * outer)
    for m in ("video", "audio"):
        found |= _norm(f"{name}.{m}_out_layers.0.GroupNorm", outer) | _point(
            f"{name}.{m}_out_layers.3", m, outer, outer
        )
        if inner != outer:
            found |= _point(f"{name}.{m}_skip_connection", m, inner, outer)
    for kind in attentions:
        found |= _attention(f"{name}.{kind}_attention_block", outer, "norm.GroupNorm")
    return found


def _cross(name: str, width: int) -> Shapes:
    found = _norm(f"{name}.v_norm.GroupNorm", width) | _norm(f"{name}.a_norm.GroupNorm", width)
    found |= _conv(f"{name}.v_qkv", width, 3 * width, (1,)) | _conv(f"{name}.a_qkv", width, 3 * width, (1,))
    return (
        found
        | _point(f"{name}.video_proj_out", "video", width, width)
        | _point(f"{name}.audio_proj_out", "audio", width, width)
    )


def _image_block(name: str, inner: int, outer: int, level: int) -> Shapes:
    found = _norm(f"{name}.in_layers.0", inner) | _conv(f"{name}.in_layers.2", inner, outer, (3, 3))
    found |= _linear(f"{name}.emb_layers.1", level, 2 * outer)
    found |= _norm(f"{name}.out_layers.0", outer) | _conv(f"{name}.out_layers.3", outer, outer, (3, 3))
    return found | (_conv(f"{name}.skip_connection", inner, outer, (1, 1)) if inner != outer else {})


def _attention(name: str, width: int, norm: str = "norm") -> Shapes:
    found = _norm(f"{name}.{norm}", width) | _conv(f"{name}.qkv", width, 3 * width, (1,))
    return found | _conv(f"{name}.proj_out", width, width, (1,))


def _frames(name: str, inner: int, outer: int) -> Shapes:
    found = _conv(f"{name}.video_conv_spatial", inner, outer, (3, 3))
    return found | _conv(f"{name}.video_conv_temporal", outer, outer, (3,))


def _point(name: str, modality: str, inner: int, outer: int) -> Shapes:
    kernel = (1, 1, 1) if modality == "video" else (1,)
    return _conv(f"{name}.{modality}_conv", inner, outer, kernel)


def _sound(name: str, inner: int, outer: int, kernel: int) -> Shapes:
    return _conv(f"{name}.audio_conv", inner, outer, (kernel,))


def _conv(name: str, inner: int, outer: int, kernel: Shape) -> Shapes:
    return {f"{name}.weight": (outer, inner, *kernel), f"{name}.bias": (outer,)}


def _linear(name: str, inner: int, outer: int) -> Shapes:
    return _conv(name, inner, outer, ())


def _norm(name: str, width: int) -> Shapes:
    return {f"{name}.weight": (width,), f"{name}.bias": (width,)}
