"""What mmdisco provides itself, through the same hooks as any plugin."""

from collections.abc import Iterable

from mmdisco_cli.backbones.options import BankOptions, LatentGaussianOptions, TokenOptions
from mmdisco_cli.conversion.published import converters
from mmdisco_cli.data.naming import SUFFIXES, VIDEO_SUFFIXES
from mmdisco_cli.data.options import ClipsOptions
from mmdisco_cli.discriminators.options import (
    AdditiveOptions,
    AlignedOptions,
    EnergyOptions,
    FactorsOptions,
    MLPOptions,
    PatchesOptions,
)
from mmdisco_cli.extractors.options import ExtractorOptions
from mmdisco_cli.hookspecs import (
    BackboneSpec,
    ConverterSpec,
    DatasetSpec,
    DiscriminatorSpec,
    ExtractorSpec,
    KindSpec,
    ProtocolSpec,
    hookimpl,
    lazy,
)
from mmdisco_cli.paper.options import PaperMelOptions, PaperWaveformOptions
from mmdisco_cli.toys.bounce.options import BounceOptions
from mmdisco_cli.toys.digits.options import DigitsOptions
from mmdisco_cli.toys.gaussians.options import GaussianMixtureOptions, GaussiansOptions


@hookimpl
def mmdisco_backbones() -> Iterable[BackboneSpec]:
    """Describe the built-in base models."""
    home = "mmdisco_cli.backbones"
    return (
        BackboneSpec("token", "trainable denoiser of any one modality", TokenOptions, lazy(f"{home}.token:build"), 1),
        BackboneSpec("bank", "exact denoiser of a set of samples", BankOptions, lazy(f"{home}.bank:build"), 1),
        BackboneSpec(
            "latent-gaussian",
            "generator of a standard normal latent: VAE, GAN",
            LatentGaussianOptions,
            lazy(f"{home}.latent_gaussian:build"),
            1,
        ),
        BackboneSpec(
            "gaussian-mixture",
            "exact denoiser of a Gaussian mixture's marginal",
            GaussianMixtureOptions,
            lazy("mmdisco_cli.toys.gaussians.backbone:build"),
            1,
        ),
    )


@hookimpl
def mmdisco_discriminators() -> Iterable[DiscriminatorSpec]:
    """Describe the built-in discriminators."""
    home, published = "mmdisco_cli.discriminators", "mmdisco_cli.conversion.published"
    paper = lazy("mmdisco_cli.paper.discriminator:build")
    return (
        DiscriminatorSpec(
            "energy", "inner product with a joint network", EnergyOptions, lazy(f"{home}.energy:build"), 1
        ),
        DiscriminatorSpec(
            "patches", "energy over patches of any shapes", PatchesOptions, lazy(f"{home}.patches:build"), 1
        ),
        DiscriminatorSpec(
            "factors", "log ratio of a hidden factor that is shared", FactorsOptions, lazy(f"{home}.factors:build"), 1
        ),
        DiscriminatorSpec("aligned", "time-aligned features, mixed", AlignedOptions, lazy(f"{home}.aligned:build"), 1),
        DiscriminatorSpec("additive", "pooled features, added", AdditiveOptions, lazy(f"{home}.additive:build"), 1),
        DiscriminatorSpec("mlp", "plain network for vectors", MLPOptions, lazy(f"{home}.mlp:build"), 1),
        DiscriminatorSpec(
            "paper-waveform",
            "the paper's, pixels and waveform",
            PaperWaveformOptions,
            paper,
            1,
            lazy(f"{published}:how_to_get_waveform"),
        ),
        DiscriminatorSpec(
            "paper-mel",
            "the paper's, video and mel latents",
            PaperMelOptions,
            paper,
            1,
            lazy(f"{published}:how_to_get_mel"),
        ),
    )


@hookimpl
def mmdisco_datasets() -> Iterable[DatasetSpec]:
    """Describe the built-in data sets."""
    toys = "mmdisco_cli.toys"
    return (
        DatasetSpec(
            "bounce",
            "moving objects with the sound of their impacts",
            BounceOptions,
            lazy(f"{toys}.bounce.dataset:build"),
            1,
        ),
        DatasetSpec(
            "digits", "digits spoken, written and named", DigitsOptions, lazy(f"{toys}.digits.dataset:build"), 1
        ),
        DatasetSpec(
            "clips",
            "a folder of video files",
            ClipsOptions,
            lazy("mmdisco_cli.data.clips:build"),
            1,
            lazy("mmdisco_cli.data.clips:check"),
        ),
        DatasetSpec("gaussians", "a mixture over scalars", GaussiansOptions, lazy(f"{toys}.gaussians.data:build"), 1),
    )


@hookimpl
def mmdisco_extractors() -> Iterable[ExtractorSpec]:
    """Describe the built-in networks for evaluation."""
    home = "mmdisco_cli.extractors"
    known = (
        ("effnet", "EfficientNet-Lite0, from packages", "effnet"),
        ("musicnn", "taggers of music, from the files of the package musicnn", "musicnn"),
        ("fvd", "I3D from a file: FVD, KVD", "fvd"),
        ("vggish", "VGGish from a file: FAD", "vggish"),
        ("audioclip", "AudioCLIP from a file: MM-Diffusion's FAD", "audioclip"),
        ("imagebind", "ImageBind from a file: cosine of frames and audio", "imagebind"),
        ("desync", "Synchformer from a file: seconds out of step", "desync"),
    )
    return [
        ExtractorSpec(name, summary, ExtractorOptions, lazy(f"{home}.{module}:build"), 1)
        for name, summary, module in known
    ]


@hookimpl
def mmdisco_converters() -> Iterable[ConverterSpec]:
    """Describe the paper's discriminators as their authors publish them."""
    return converters()


@hookimpl
def mmdisco_protocols() -> Iterable[ProtocolSpec]:
    """Describe the built-in ways to evaluate a recipe."""
    toys = "mmdisco_cli.toys"
    known = (
        ("bounce", "events in video against those in audio", f"{toys}.bounce.protocol"),
        ("bounce-text", "video and audio against their caption", f"{toys}.bounce.text_protocol"),
        ("clips", "alignment and distances of any clips", "mmdisco_cli.evaluation.clips"),
        ("digits", "which digit each modality shows", f"{toys}.digits.protocol"),
        ("gaussians", "gradient and samples against a known distribution", f"{toys}.gaussians.protocol"),
        ("gaussians-ablation", "the losses of a discriminator, alone and together", f"{toys}.gaussians.ablation"),
        ("study", "a recipe trained and measured under several settings", "mmdisco_cli.studies.protocol"),
    )
    return [ProtocolSpec(name, summary, lazy(f"{module}:build"), 1) for name, summary, module in known]


@hookimpl
def mmdisco_kinds() -> Iterable[KindSpec]:
    """Describe the built-in kinds of modalities."""
    images = (".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff")
    known = (
        ("audio", "audio alone, 16-bit PCM", ".wav", SUFFIXES, "audio/wav"),
        ("video", "frames alone, H.264", ".mp4", VIDEO_SUFFIXES, "video/mp4"),
        ("image", "grey or RGB, 8 bits", ".png", images, "image/png"),
        ("text", "strings in UTF-8", ".txt", (), "text/plain"),
        ("vector", "tensors of any shape", ".safetensors", (), "application/octet-stream"),
    )
    return [
        KindSpec(name, summary, lazy(f"mmdisco_cli.kinds.{name}:build"), 1, suffix, reads, mime)
        for name, summary, suffix, reads, mime in known
    ]
