"""How the paper's discriminators combine the features of both modalities, before the linear layer of the logit."""

import math

import torch
from torch import Tensor, nn

WIDTH, HEADS, HEAD, TOKENS, LAYERS = 256, 8, 64, 128, 5
"""Of the released transformer: features, heads, features per head, learned positions, attention layers."""


class MeanFusion(nn.Module):
    """Average each modality over time and concatenate: the logit becomes a sum over modalities."""

    def __init__(self, features: int) -> None:
        super().__init__()
        self.width = 2 * features

    def forward(self, video: Tensor, audio: Tensor, time: Tensor) -> Tensor:
        """Map video (B, T_v, C) and audio (B, T_a, C) features to (B, 2 * C); time (B, width) is not used."""
        return torch.cat([video.mean(1), audio.mean(1)], 1)

    def require_fit(self, frames: int, steps: int) -> None:
        """Accept any number of video frames and audio steps."""


class TransformerFusion(nn.Module):
    """A transformer over the time steps of both modalities, read off at a learned first token."""

    def __init__(self, features: int, time: int) -> None:
        super().__init__()
        self.width = WIDTH
        self.fm_video_in, self.fm_audio_in = nn.Linear(features, WIDTH), nn.Linear(features, WIDTH)
        self.fm_time_in = nn.Linear(time, WIDTH)
        self.fm = _Transformer()

    def forward(self, video: Tensor, audio: Tensor, time: Tensor) -> Tensor:
        """Map video (B, T_v, C) and audio (B, T_a, C) features and the embedding of time (B, width) to (B, 256)."""
        self.require_fit(video.shape[1], audio.shape[1])
        parts = [self.fm_time_in(time)[:, None], self.fm_video_in(video), self.fm_audio_in(audio)]
        fused: Tensor = self.fm(torch.cat(parts, 1))
        return fused

    def require_fit(self, frames: int, steps: int) -> None:
        """Raise ValueError where frames and audio steps are more tokens than there are learned positions."""
        if (count := 2 + frames + steps) > TOKENS:
            raise ValueError(
                f"{frames} video frames and {steps} audio steps make {count} tokens, but this discriminator has "
                f"learned {TOKENS} positions: make the clip shorter"
            )


class _Transformer(nn.Module):
    """A pre-norm transformer with learned positions and a learned class token in front."""

    def __init__(self) -> None:
        super().__init__()
        self.cls_emb = nn.Parameter(torch.randn(1, 1, WIDTH) / math.sqrt(WIDTH))
        self.pos_emb = _Positions()
        self.attn_layers = _Layers()
        self.norm = nn.LayerNorm(WIDTH)
        self.out_layer = nn.Linear(WIDTH, WIDTH)

    def forward(self, tokens: Tensor) -> Tensor:
        """Map tokens (B, N, 256) to the output (B, 256) at the class token."""
        x = torch.cat([self.cls_emb.expand(len(tokens), -1, -1).to(tokens.dtype), tokens], 1)
        x = self.attn_layers(x + self.pos_emb.emb.weight[: x.shape[1]])
        pooled: Tensor = self.out_layer(self.norm(x[:, 0]))
        return pooled


class _Positions(nn.Module):
    """Learned embeddings of the positions."""

    def __init__(self) -> None:
        super().__init__()
        self.emb = nn.Embedding(TOKENS, WIDTH)
        nn.init.normal_(self.emb.weight, std=0.02)


class _Layers(nn.Module):
    """Attention and feed-forward layers in turn: x + layer(LayerNorm(x))."""

    def __init__(self) -> None:
        super().__init__()
        parts = [part for _ in range(LAYERS) for part in (_Attention(), _FeedForward())]
        self.layers = nn.ModuleList(nn.ModuleList([nn.LayerNorm(WIDTH), part]) for part in parts)

    def forward(self, x: Tensor) -> Tensor:
        """Map tokens (B, N, 256) to the same shape."""
        for layer in self.layers:
            norm, part = layer.children()
            x = x + part(norm(x))
        return x


class _Attention(nn.Module):
    """Attention of 8 heads, written out, since the fused kernels have no second derivative on the CPU."""

    def __init__(self) -> None:
        super().__init__()
        self.to_q, self.to_k, self.to_v = (nn.Linear(WIDTH, HEADS * HEAD, bias=False) for _ in range(3))
        self.to_out = nn.Linear(HEADS * HEAD, WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        """Map tokens (B, N, 256) to the same shape."""
        q, k, v = (layer(x).unflatten(-1, (HEADS, HEAD)).transpose(1, 2) for layer in (self.to_q, self.to_k, self.to_v))
        weights = (q @ k.transpose(-1, -2) / math.sqrt(HEAD)).softmax(-1)
        merged: Tensor = self.to_out((weights @ v).transpose(1, 2).flatten(2))
        return merged


class _FeedForward(nn.Module):
    """Two layers with the exact GELU between them."""

    def __init__(self) -> None:
        super().__init__()
        widen = nn.Sequential(nn.Linear(WIDTH, 4 * WIDTH), nn.GELU())
        self.net = nn.Sequential(widen, nn.Identity(), nn.Linear(4 * WIDTH, WIDTH))

    def forward(self, x: Tensor) -> Tensor:
        """Map tokens (B, N, 256) to the same shape."""
        mapped: Tensor = self.net(x)
        return mapped
