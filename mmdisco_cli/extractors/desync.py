"""DeSync: by how many seconds Synchformer finds audio and video apart.

The mean absolute offset of the first and the last 4.8 s of the first 8 s (Cheng et al., 2025): it moves in steps of
0.1 s, and nothing shorter than 4.8 s has one.
"""

from fractions import Fraction

import torch
import torch.nn.functional as F
from torch import Tensor
from torchaudio.transforms import MelSpectrogram
from torchvision.transforms.v2 import InterpolationMode
from torchvision.transforms.v2.functional import center_crop, resize

from mmdisco_cli.extractors.contract import Audio, AudioVideo, Extractor, Frame, Frames, Score
from mmdisco_cli.extractors.options import ExtractorOptions
from mmdisco_cli.extractors.synchformer import FRAMES, MELS, Synchformer, parts
from mmdisco_cli.extractors.weights import choose_preset, fill, identify, require_file

RATE, FPS, SIDE = 16000, 25, 224
LONGEST, SHORTEST = 8.0, 4.8
SEGMENT, SAMPLES = 16, 10240
"""Of a segment; the next begins half of it later."""
MEAN, STD = -4.2677393, 4.5689974
PRESETS = ("synchformer",)


def build(options: ExtractorOptions) -> Extractor:
    """Build the extractor from synchformer_state_dict.pth.

    Raises:
        UsageError: no file, or no such preset.
        DataError: the file does not fit.
    """
    choose_preset("desync", options.preset, PRESETS)
    path = require_file("desync", options.weights)
    weights = identify(path)
    with torch.device("meta"):
        bare = Synchformer()
    network = fill(bare, path, parts)
    about = {
        "extractor": "Synchformer 24-01-04T16-39-21",
        "measure": "mean |offset| in seconds of the likeliest class over the first and the last 4.8 s of up to 8 s",
        "weights": weights,
    }

    def embed(frames: Tensor, audio: Tensor) -> dict[str, Tensor]:
        with torch.no_grad():
            return {"desync": network(*segments(frames, audio))[None].double()}

    most, least = round(LONGEST * FPS), round(SHORTEST * FPS)
    wants = AudioVideo(Frames(squared, Fraction(FPS), most, least), Audio(RATE, SHORTEST))
    return Extractor(f"desync-{weights['sha256'][:16]}", wants, embed, (), about, [Score("desync", about)])


def squared(frame: Frame) -> Tensor:
    """Return the middle square (3, 224, 224), uint8, red first."""
    tensor = torch.from_numpy(frame[:, :, ::-1].copy()).permute(2, 0, 1)
    square: Tensor = center_crop(resize(tensor, [SIDE], InterpolationMode.BICUBIC, antialias=True), [SIDE, SIDE])
    return square


def segments(frames: Tensor, audio: Tensor) -> tuple[Tensor, Tensor]:
    """Return segments (S, 3, 16, 224, 224) and (S, 128, 66) of frames (T, 3, 224, 224) and their audio (S,)."""
    video = frames.unfold(0, SEGMENT, SEGMENT // 2).movedim(-1, 2)
    # Audio that is a few samples short, by rounding of time stamps, is as long as its video.
    missing = max(0, len(frames) * RATE // FPS - len(audio))
    audio = F.pad(audio, (0, missing)).unfold(0, SAMPLES, SAMPLES // 2)[: len(video)]
    return video.float() / 127.5 - 1, spectra_of(audio)


def spectra_of(pieces: Tensor) -> Tensor:
    """Return normalised log-mel spectrograms (S, 128, 66) of pieces of audio (S, samples) at 16 kHz."""
    mel = MelSpectrogram(RATE, n_fft=1024, win_length=400, hop_length=160, n_mels=MELS)(pieces)
    level = (mel + 1e-6).log()[..., :FRAMES]
    return (F.pad(level, (0, FRAMES - level.shape[-1])) - MEAN) / (2 * STD)
