"""ImageBind's towers of video and audio: the cosine of what a clip shows and how it sounds (Girdhar et al., 2023).

As its authors prepare clips: five stretches of 2 s with two frames each in three crops, three stretches of audio of
2 s, embeddings averaged. The cosine is reported as it is; some tables show 100 times as much.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchaudio.compliance import kaldi

from mmdisco_cli.extractors.contract import Audio, AudioVideo, Extractor, Frame, Frames, Score
from mmdisco_cli.extractors.options import ExtractorOptions
from mmdisco_cli.extractors.transformer import Block, renamed
from mmdisco_cli.extractors.weights import choose_preset, fill, identify, require_file

RATE, STRETCH = 16000, 2.0
FRAME_STRETCHES, AUDIO_STRETCHES = 5, 3
SIDE, MELS, FRAMES = 224, 128, 204
MEAN, STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
SOUND_MEAN, SOUND_STD = -4.268, 9.138
PRESETS = ("imagebind",)


@dataclass(frozen=True)
class Tower:
    """Width, depth and heads of a transformer."""

    width: int
    depth: int
    heads: int


VISION, SOUND = Tower(1280, 32, 16), Tower(768, 12, 12)
DIMENSION = 1024


class Encoder(nn.Module):
    """Patches of frames or of a spectrogram, with a token before them, to an embedding (B, 1024) of unit length."""

    def __init__(self, tower: Tower, stem: nn.Module, patches: int, *, of_audio: bool, dimension: int) -> None:
        super().__init__()
        self.stem = stem
        self.stem_norm = nn.LayerNorm(tower.width) if of_audio else nn.Identity()
        self.before = nn.Identity() if of_audio else nn.LayerNorm(tower.width, 1e-6)
        self.token = nn.Parameter(torch.zeros(1, 1, tower.width))
        self.places = nn.Parameter(torch.zeros(1, 1 + patches, tower.width))
        self.blocks = nn.Sequential(
            *(Block(tower.width, tower.heads, 1e-6, extra=of_audio) for _ in range(tower.depth))
        )
        self.norm = nn.LayerNorm(tower.width, 1e-6)
        self.head = nn.Linear(tower.width, dimension, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Return embeddings."""
        patches = self.stem_norm(self.stem(x).flatten(2).transpose(1, 2))
        x = torch.cat([self.token.expand(len(x), -1, -1), patches], 1) + self.places
        return F.normalize(self.head(self.norm(self.blocks(self.before(x)))[:, 0]), dim=-1)


class ImageBind(nn.Module):
    """Both towers: frames (B, 3, 2, 224, 224) and log-mel spectrograms (B, 1, 128, 204)."""

    def __init__(self, vision: Tower = VISION, audio: Tower = SOUND, dimension: int = DIMENSION) -> None:
        super().__init__()
        cut = (2, 14, 14)
        stem = nn.Conv3d(3, vision.width, cut, cut, bias=False)
        self.vision = Encoder(vision, stem, (SIDE // 14) ** 2, of_audio=False, dimension=dimension)
        across, along = (MELS - 16) // 10 + 1, (FRAMES - 16) // 10 + 1
        patches = nn.Conv2d(1, audio.width, 16, 10, bias=False)
        self.audio = Encoder(audio, patches, across * along, of_audio=True, dimension=dimension)

    def forward(self, frames: Tensor, spectra: Tensor) -> Tensor:
        """Return the cosine () of a clip's mean embeddings."""
        return F.cosine_similarity(self.vision(frames).mean(0), self.audio(spectra).mean(0), dim=0)


RULES = tuple(
    (rf"modality_{part}\.(vision|audio)\.{theirs}", rf"\1.{ours}")
    for part, theirs, ours in (
        ("preprocessors", "cls_token", "token"),
        ("preprocessors", r"pos_embedding_helper\.pos_embed", "places"),
        ("preprocessors", r"rgbt_stem\.norm_layer\.(weight|bias)", r"stem_norm.\2"),
        ("preprocessors", r"rgbt_stem\.proj\.(?:1\.)?weight", "stem.weight"),
        ("trunks", r"pre_transformer_layer\.0\.(weight|bias)", r"before.\2"),
        ("trunks", r"blocks\.(\d+)\.attn\.in_proj_(weight|bias)", r"blocks.\2.attn.qkv.\3"),
        ("trunks", r"blocks\.(\d+)\.attn\.out_proj\.(weight|bias)", r"blocks.\2.attn.proj.\3"),
        ("trunks", r"blocks\.(\d+)\.attn\.(bias_[kv])", r"blocks.\2.attn.\3"),
        ("trunks", r"blocks\.(\d+)\.norm_([12])\.(weight|bias)", r"blocks.\2.norm\3.\4"),
        ("trunks", r"blocks\.(\d+)\.mlp\.(fc[12])\.(weight|bias)", r"blocks.\2.\3.\4"),
        ("heads", r"0\.(weight|bias)", r"norm.\2"),
        ("heads", r"2\.weight", "head.weight"),
    )
)


def towers(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the tensors of the two towers of all that ImageBind's file holds."""
    found = renamed(state, RULES)
    for stem in [name.removesuffix("bias_k") for name in found if name.endswith(".bias_k")]:
        found[f"{stem}extra"] = torch.cat([found.pop(f"{stem}{name}") for name in ("bias_k", "bias_v")]).flatten(1)
    return found


def build(options: ExtractorOptions) -> Extractor:
    """Build the extractor from imagebind_huge.pth.

    Raises:
        UsageError: no file, or no such preset.
        DataError: the file does not fit.
    """
    choose_preset("imagebind", options.preset, PRESETS)
    path = require_file("imagebind", options.weights)
    weights = identify(path)
    with torch.device("meta"):
        bare = ImageBind()
    network = fill(bare, path, towers)
    about = {
        "extractor": "ImageBind huge, frames and audio",
        "measure": "cosine as it is, not times 100; sound shorter than 2 s is padded, outside of what it was made for",
        "weights": weights,
    }

    def embed(frames: Tensor, audio: Tensor) -> dict[str, Tensor]:
        with torch.no_grad():
            return {"imagebind": network(cropped(frames), spectra_of(audio))[None].double()}

    wants = AudioVideo(Frames(scaled, moments=moments), Audio(RATE, 0.1, left=True))
    return Extractor(f"imagebind-{weights['sha256'][:16]}", wants, embed, (), about, [Score("imagebind", about)])


def starts(seconds: float, count: int) -> list[float]:
    """Return when stretches of 2 s begin that are spread evenly over a clip."""
    return [k * max(seconds - STRETCH, 0.0) / (count - 1) for k in range(count)]


def moments(seconds: float) -> Sequence[float]:
    """Return when the first and the last frame of each stretch are shown."""
    ends = [min(begin + STRETCH, seconds) - 1e-3 for begin in starts(seconds, FRAME_STRETCHES)]
    return [time for pair in zip(starts(seconds, FRAME_STRETCHES), ends, strict=True) for time in pair]


def scaled(frame: Frame) -> Tensor:
    """Return (3, H, W), red first, the shorter side 224, scaled as CLIP's frames are."""
    tensor = torch.from_numpy(frame[:, :, ::-1].copy()).permute(2, 0, 1)[None].float() / 255
    rows, columns = frame.shape[:2]
    size = (math.floor(rows / columns * SIDE), SIDE) if columns < rows else (SIDE, math.floor(columns / rows * SIDE))
    small = F.interpolate(tensor, size, mode="bilinear", align_corners=False)[0]
    return (small - torch.tensor(MEAN)[:, None, None]) / torch.tensor(STD)[:, None, None]


def cropped(frames: Tensor) -> Tensor:
    """Return pairs of frames (2 K, 3, H, W) as (3 K, 3, 2, 224, 224): both ends and the middle of the longer side."""
    pairs = frames.unflatten(0, (-1, 2)).transpose(1, 2)
    rows, columns = (size - SIDE for size in frames.shape[-2:])
    places = [(math.ceil(rows / 2) if rows <= columns else y, math.ceil(columns / 2) if rows > columns else x)
              for y, x in ((0, 0), (math.ceil(rows / 2), math.ceil(columns / 2)), (rows, columns))]  # fmt: skip
    return torch.stack([pairs[..., y : y + SIDE, x : x + SIDE] for y, x in places], 1).flatten(0, 1)


def spectra_of(audio: Tensor) -> Tensor:
    """Return normalised log-mel spectrograms (3, 1, 128, 204) of audio (S,) at 16 kHz."""
    begins = [int(begin * RATE) for begin in starts(len(audio) / RATE, AUDIO_STRETCHES)]
    return torch.stack([_spectrum(audio[begin : begin + int(STRETCH * RATE)]) for begin in begins])[:, None]


def _spectrum(piece: Tensor) -> Tensor:
    mel = kaldi.fbank(
        (piece - piece.mean())[None], htk_compat=True, sample_frequency=RATE, use_energy=False, window_type="hanning",
        num_mel_bins=MELS, dither=0.0, frame_length=25, frame_shift=10,
    ).T[:, :FRAMES]  # fmt: skip
    return (F.pad(mel, (0, FRAMES - mel.shape[1])) - SOUND_MEAN) / SOUND_STD
