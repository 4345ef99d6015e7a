"""Synchformer, which finds by how much audio and video are apart (Iashin et al., 2024).

Segments of 0.64 s every 0.32 s are read by a video transformer with attention over time and space in turn (Patrick et
al., 2021) and by an audio spectrogram transformer (Gong et al., 2021); of 14 segments, 4.8 s, a third transformer tells
one of 21 offsets from -2 to 2 s.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmdisco_cli.extractors.transformer import Block, attend, renamed

SEGMENTS = 14
PATCH, GRID, STEPS = 16, 224 // 16, 8
MELS, FRAMES = 128, 66
HIGH, LONG = (MELS - PATCH) // 10 + 1, (FRAMES - PATCH) // 10 + 1
OFFSETS = torch.linspace(-2, 2, 21)


@dataclass(frozen=True)
class Size:
    """Width and heads of all transformers, depth of the two that look and listen and of the one that compares."""

    width: int = 768
    heads: int = 12
    depth: int = 12
    compared: int = 3
    compared_heads: int = 8


class Divided(nn.Module):
    """Attention along one axis of patches at a time; the token before them looks at everything."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv, self.proj = nn.Linear(width, 3 * width), nn.Linear(width, width)

    def forward(self, x: Tensor, *, time: bool) -> Tensor:
        """Return (B, 1 + T N, D) for tokens and patches of T frames."""
        q, k, v = self.qkv(x).chunk(3, -1)
        token = attend(q[:, :1], k, v, self.heads)
        axes = [y[:, 1:].unflatten(1, (STEPS, -1)) for y in (q, k, v)]
        if time:
            axes = [y.transpose(1, 2) for y in axes]
        rows = axes[0].shape[1]
        first = [y[:, None, :1].expand(-1, rows, -1, -1) for y in (k, v)]
        keys, values = (torch.cat([one, y], 2) for one, y in zip(first, axes[1:], strict=True))
        found = attend(axes[0], keys, values, self.heads)
        found = (found.transpose(1, 2) if time else found).flatten(1, 2)
        mixed: Tensor = self.proj(torch.cat([token, found], 1))
        return mixed


class SpaceTime(nn.Module):
    """A block that attends along time first, then within each frame."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.norm1, self.norm2, self.norm3 = (nn.LayerNorm(width, 1e-6) for _ in range(3))
        self.timeattn, self.attn = Divided(width, heads), Divided(width, heads)
        self.fc1, self.fc2 = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        """Return (B, 1 + T N, D)."""
        x = x + self.timeattn(self.norm3(x), time=True)
        x = x + self.attn(self.norm1(x), time=False)
        found: Tensor = x + self.fc2(F.gelu(self.fc1(self.norm2(x))))
        return found


class Gathered(nn.Module):
    """One vector (B, D) for several (B, N, D), by a token that looks at them."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.token = nn.Parameter(torch.zeros(1, 1, width))
        self.block = Block(width, heads, 1e-6)

    def forward(self, x: Tensor) -> Tensor:
        """Return what the token has gathered."""
        found: Tensor = self.block(torch.cat([self.token.expand(len(x), -1, -1), x], 1))[:, 0]
        return found


class VideoEncoder(nn.Module):
    """Segments of frames (B, 3, 16, 224, 224) to vectors (B, 8, D), one for two frames."""

    def __init__(self, size: Size) -> None:
        super().__init__()
        cut = (2, PATCH, PATCH)
        self.stem = nn.Conv3d(3, size.width, cut, cut)
        self.token = nn.Parameter(torch.zeros(1, 1, size.width))
        self.places = nn.Parameter(torch.zeros(1, 1 + GRID**2, size.width))
        self.times = nn.Parameter(torch.zeros(1, STEPS, size.width))
        self.blocks = nn.Sequential(*(SpaceTime(size.width, size.heads) for _ in range(size.depth)))
        self.norm = nn.LayerNorm(size.width, 1e-6)
        self.gathered = Gathered(size.width, size.heads)

    def forward(self, x: Tensor) -> Tensor:
        """Return vectors."""
        patches = self.stem(x).flatten(3).permute(0, 2, 3, 1) + self.places[:, None, 1:] + self.times[:, :, None]
        token = (self.token + self.places[:, :1]).expand(len(x), -1, -1)
        found = self.norm(self.blocks(torch.cat([token, patches.flatten(1, 2)], 1))[:, 1:])
        vectors: Tensor = self.gathered(found.unflatten(1, (STEPS, -1)).flatten(0, 1))
        return vectors.reshape(-1, STEPS, vectors.shape[-1])


class AudioEncoder(nn.Module):
    """Segments of log-mel spectrograms (B, 128, 66) to vectors (B, 6, D)."""

    def __init__(self, size: Size) -> None:
        super().__init__()
        self.stem = nn.Conv2d(1, size.width, PATCH, 10)
        self.tokens = nn.Parameter(torch.zeros(1, 2, size.width))
        self.places = nn.Parameter(torch.zeros(1, 2 + HIGH * LONG, size.width))
        self.blocks = nn.Sequential(*(Block(size.width, size.heads, 1e-12) for _ in range(size.depth)))
        self.norm = nn.LayerNorm(size.width, 1e-12)
        self.gathered = Gathered(size.width, size.heads)

    def forward(self, x: Tensor) -> Tensor:
        """Return vectors."""
        patches = self.stem(x[:, None]).flatten(2).transpose(1, 2)
        x = torch.cat([self.tokens.expand(len(x), -1, -1), patches], 1) + self.places
        found = self.norm(self.blocks(x))[:, 2:].unflatten(1, (HIGH, LONG)).transpose(1, 2)
        vectors: Tensor = self.gathered(found.flatten(0, 1))
        return vectors.reshape(-1, LONG, vectors.shape[-1])


class Synchformer(nn.Module):
    """Segments of a clip to logits of 21 offsets."""

    def __init__(self, size: Size | None = None) -> None:
        super().__init__()
        size = size or Size()
        self.watching, self.listening = VideoEncoder(size), AudioEncoder(size)
        self.vproj, self.aproj = (nn.Linear(size.width, size.width) for _ in range(2))
        self.vnorm, self.anorm = (nn.LayerNorm(size.width) for _ in range(2))
        self.off, self.mod = (nn.Parameter(torch.zeros(1, 1, size.width)) for _ in range(2))
        self.places = nn.Parameter(torch.zeros(1, 2 + SEGMENTS * (STEPS + LONG), size.width))
        self.blocks = nn.Sequential(*(Block(size.width, size.compared_heads, 1e-5) for _ in range(size.compared)))
        self.norm = nn.LayerNorm(size.width)
        self.head = nn.Linear(size.width, len(OFFSETS))

    def compared(self, video: Tensor, audio: Tensor) -> Tensor:
        """Return logits (21,) for vectors of 14 segments, (14, 8, D) and (14, 6, D)."""
        v, a = self.vnorm(self.vproj(video)).flatten(0, 1)[None], self.anorm(self.aproj(audio)).flatten(0, 1)[None]
        x = self.blocks(torch.cat([self.off, v, self.mod, a], 1) + self.places)
        logits: Tensor = self.head(self.norm(x[0, 0]))
        return logits

    def forward(self, frames: Tensor, spectra: Tensor) -> Tensor:
        """Return the mean absolute offset () of the first and the last 14 of segments of frames and of audio."""
        video = torch.cat([self.watching(part) for part in frames.split(4)])
        audio = self.listening(spectra)
        ends = (slice(SEGMENTS), slice(-SEGMENTS, None))
        found = [OFFSETS[self.compared(video[end], audio[end]).argmax()].abs() for end in ends]
        return torch.stack(found).mean()


RULES = (
    (r"vfeat_extractor\.patch_embed_3d\.proj\.(.+)", r"watching.stem.\1"),
    (r"vfeat_extractor\.cls_token", r"watching.token"),
    (r"vfeat_extractor\.pos_embed", r"watching.places"),
    (r"vfeat_extractor\.temp_embed", r"watching.times"),
    (r"vfeat_extractor\.blocks\.(\d+)\.(?:mlp\.)?(.+)", r"watching.blocks.\1.\2"),
    (r"vfeat_extractor\.norm\.(.+)", r"watching.norm.\1"),
    (r"afeat_extractor\.ast\.embeddings\.patch_embeddings\.projection\.(.+)", r"listening.stem.\1"),
    (r"afeat_extractor\.ast\.embeddings\.(cls|distillation)_token", r"\1"),
    (r"afeat_extractor\.ast\.embeddings\.position_embeddings", r"listening.places"),
    *(
        (rf"afeat_extractor\.ast\.encoder\.layer\.(\d+)\.{theirs}\.(.+)", f"{third}listening.blocks.\\1.{ours}.\\2")
        for theirs, third, ours in (
            (r"attention\.attention\.query", "qkv:0:", "attn.qkv"),
            (r"attention\.attention\.key", "qkv:1:", "attn.qkv"),
            (r"attention\.attention\.value", "qkv:2:", "attn.qkv"),
            (r"attention\.output\.dense", "", "attn.proj"),
            (r"intermediate\.dense", "", "fc1"),
            (r"output\.dense", "", "fc2"),
            ("layernorm_before", "", "norm1"),
            ("layernorm_after", "", "norm2"),
        )
    ),
    (r"afeat_extractor\.ast\.layernorm\.(.+)", r"listening.norm.\1"),
    *(
        (rf"{side}\.{agg}\.{theirs}", rf"{ours}.gathered.{new}")
        for side, agg, ours in (
            ("vfeat_extractor", "spatial_attn_agg", "watching"), ("afeat_extractor", "freq_attn_agg", "listening")
        )
        for theirs, new in (
            ("cls_token", "token"),
            (r"self_attn\.in_proj_(weight|bias)", r"block.attn.qkv.\1"),
            (r"self_attn\.out_proj\.(.+)", r"block.attn.proj.\1"),
            (r"linear([12])\.(.+)", r"block.fc\1.\2"),
            (r"norm([12])\.(.+)", r"block.norm\1.\2"),
        )
    ),
    (r"([va]proj)\.(.+)", r"\1.\2"),
    (r"transformer\.vis_in_lnorm\.(.+)", r"vnorm.\1"),
    (r"transformer\.aud_in_lnorm\.(.+)", r"anorm.\1"),
    (r"transformer\.OFF_tok", "off"),
    (r"transformer\.MOD_tok", "mod"),
    (r"transformer\.pos_emb_cfg\.pos_emb", "places"),
    (r"transformer\.blocks\.(\d+)\.attn\.query\.(.+)", r"qkv:0:blocks.\1.attn.qkv.\2"),
    (r"transformer\.blocks\.(\d+)\.attn\.key\.(.+)", r"qkv:1:blocks.\1.attn.qkv.\2"),
    (r"transformer\.blocks\.(\d+)\.attn\.value\.(.+)", r"qkv:2:blocks.\1.attn.qkv.\2"),
    (r"transformer\.blocks\.(\d+)\.attn\.proj\.(.+)", r"blocks.\1.attn.proj.\2"),
    (r"transformer\.blocks\.(\d+)\.ln([12])\.(.+)", r"blocks.\1.norm\2.\3"),
    (r"transformer\.blocks\.(\d+)\.mlp\.0\.(.+)", r"blocks.\1.fc1.\2"),
    (r"transformer\.blocks\.(\d+)\.mlp\.2\.(.+)", r"blocks.\1.fc2.\2"),
    (r"transformer\.ln_f\.(.+)", r"norm.\1"),
    (r"transformer\.off_head\.(.+)", r"head.\1"),
)  # fmt: skip


def parts(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the tensors of Synchformer's file under the names of `Synchformer`."""
    found = renamed(state, RULES)
    found["listening.tokens"] = torch.cat([found.pop("cls"), found.pop("distillation")], 1)
    return found
