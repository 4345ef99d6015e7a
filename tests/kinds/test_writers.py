"""What each writer makes is read by readers that share no code with it, and comes back as it was."""

import json
import wave
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from PIL import Image
from scipy.io import wavfile
from torch import Tensor

from mmdisco_cli.data.media import write_mp4, write_wav
from mmdisco_cli.diffusion.backbone import KINDS, ModalityPlan
from mmdisco_cli.errors import DataError, PluginError
from mmdisco_cli.hookspecs import KindSpec, lazy
from mmdisco_cli.kinds.contract import Item
from mmdisco_cli.kinds.known import OpenKind, kind_of_file, open_kinds
from mmdisco_cli.kinds.text import TextKind
from mmdisco_cli.testing import check_kind

ABOUT = {"title": "café 1", "seed": "7"}


def item(*shape: int, rate: float | None = None, scale: int = 1) -> Item:
    return Item("x", ModalityPlan(shape, shape, rate, shape[1] / rate if rate else 0.0), ABOUT, scale)


def kind(name: str) -> OpenKind:
    return open_kinds([name])[name]


def steps(*shape: int) -> Tensor:
    """Return every byte in turn as values of [-1, 1]."""
    count = int(np.prod(shape))
    return (torch.arange(count) % 256 / 127.5 - 1).reshape(shape)


@pytest.mark.parametrize("channels", [1, 3])
def test_every_byte_of_an_image_comes_back(tmp_path: Path, channels: int) -> None:
    media, about = steps(channels, 24, 32), item(channels, 24, 32)
    path = kind("image").write(tmp_path / "a.png", media, about)
    with Image.open(path) as image:
        assert (image.format, image.mode, image.size) == ("PNG", {1: "L", 3: "RGB"}[channels], (32, 24))
        pixels = np.asarray(image).reshape(24, 32, channels)
        assert json.loads(image.info["Comment"]) == ABOUT
        assert image.info["Title"] == "café 1"
    assert np.array_equal(pixels, (np.arange(channels * 768) % 256).reshape(channels, 24, 32).transpose(1, 2, 0))
    assert torch.equal(kind("image").read(path, about), media)
    assert kind("image").change(path, about) == ""


def test_an_enlarged_image_shrinks_to_what_it_was(tmp_path: Path) -> None:
    media, about = steps(3, 4, 6), item(3, 4, 6, scale=5)
    path = kind("image").write(tmp_path / "a.png", media, about)
    with Image.open(path) as image:
        assert image.size == (30, 20)
        assert np.array_equal(np.asarray(image)[2::5, 2::5], ((media + 1) * 127.5).round().permute(1, 2, 0).numpy())
    assert torch.equal(kind("image").read(path, about), media)


def test_values_outside_of_an_images_range_are_cut_off(tmp_path: Path) -> None:
    path = kind("image").write(tmp_path / "a.png", torch.tensor([[[-3.0, 3.0]]]), item(1, 1, 2))
    with Image.open(path) as image:
        assert np.asarray(image).tolist() == [[0, 255]]


def test_files_as_people_have_them_are_read(tmp_path: Path) -> None:
    half = np.zeros((8, 8), np.uint8)
    half[:, 4:] = 200
    grey, about = item(1, 8, 8), (half.astype(np.float32) / 127.5 - 1)[None]
    deep = Image.fromarray(half.astype(np.uint16) * 257)
    deep.save(tmp_path / "deep.png")
    palette = Image.fromarray(half).convert("P")
    palette.save(tmp_path / "palette.png")
    for name in ("deep.png", "palette.png"):
        assert np.abs(kind("image").read(tmp_path / name, grey).numpy() - about).max() < 1e-6
    turned = Image.fromarray(np.rot90(half))
    exif = turned.getexif()
    exif[0x0112] = 6  # to be turned clockwise by 90 degrees before it is shown
    turned.save(tmp_path / "turned.png", exif=exif)
    assert np.abs(kind("image").read(tmp_path / "turned.png", grey).numpy() - about).max() < 1e-6
    clear = Image.merge("RGBA", [*Image.fromarray(half).convert("RGB").split(), Image.fromarray(255 - half)])
    clear.save(tmp_path / "clear.png")
    found = kind("image").read(tmp_path / "clear.png", grey)
    assert found[0, 0, 0] == -1
    assert found[0, 0, 7].item() == pytest.approx((200 * 55 + 255 * 200) / 255 / 127.5 - 1, abs=0.01)
    assert "what is transparent made white" in kind("image").change(tmp_path / "clear.png", grey)
    wide = Image.fromarray(np.hstack([half, half, half]))
    wide.save(tmp_path / "wide.jpg", quality=95)
    assert np.abs(kind("image").read(tmp_path / "wide.jpg", grey).numpy() - about).max() < 0.1  # its middle
    assert kind("image").change(tmp_path / "wide.jpg", grey) == "24 x 8 pixels cropped to 8 x 8"
    wide.resize((48, 16)).save(tmp_path / "wider.png")
    said = kind("image").change(tmp_path / "wider.png", grey)
    assert said == "48 x 16 pixels cropped to 16 x 16 and resized to 8 x 8"


def test_of_an_image_that_moves_the_first_is_taken_and_said(tmp_path: Path) -> None:
    first, second = (Image.fromarray(np.full((8, 8), level, np.uint8)) for level in (40, 200))
    first.save(tmp_path / "moving.gif", save_all=True, append_images=[second])
    assert kind("image").read(tmp_path / "moving.gif", item(1, 8, 8)).mean().item() == pytest.approx(40 / 127.5 - 1)
    assert kind("image").change(tmp_path / "moving.gif", item(1, 8, 8)).startswith("the first of 2 images")


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("words.png", b"no image", "no image of a known format"),
        ("empty.png", b"", "no image of a known format"),
        ("range.tif", None, "pixels are floating-point numbers, of which no range is known"),
    ],
)
def test_a_file_that_is_no_image_is_refused_in_one_line(
    tmp_path: Path, name: str, content: bytes | None, said: str
) -> None:
    if content is None:
        Image.fromarray(np.linspace(0, 1, 64, dtype=np.float32).reshape(8, 8)).save(tmp_path / name)
    else:
        (tmp_path / name).write_bytes(content)
    for call in (kind("image").read, kind("image").change):
        with pytest.raises(DataError) as refused:
            call(tmp_path / name, item(1, 8, 8))
        assert str(refused.value) == f"{tmp_path / name}: {said}"


def test_audio_that_is_not_finite_or_never_comes_is_refused(tmp_path: Path) -> None:
    wave = np.full(800, 0.1, np.float32)
    wave[90] = np.nan
    wavfile.write(tmp_path / "broken.wav", 8000, wave)
    wavfile.write(tmp_path / "empty.wav", 8000, wave[:0])
    for name, said in (("broken", "holds audio that is not finite"), ("empty", "no audio stream that can be decoded")):
        with pytest.raises(DataError, match=f"{name}.wav: {said}$"):
            kind("audio").read(tmp_path / f"{name}.wav", item(1, 800, rate=8000))


def test_many_channels_come_back(tmp_path: Path) -> None:
    values = torch.linspace(-32768, 32767, 1500).round().reshape(5, 300)
    path = kind("audio").write(tmp_path / "a.wav", values / 32768, item(5, 300, rate=8000))
    rate, stored = wavfile.read(path)
    assert rate == 8000
    assert np.array_equal(stored.T, values.numpy().astype(np.int16))
    assert torch.equal(kind("audio").read(path, item(5, 300, rate=8000)), values / 32768)


@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("rate", [8000, 22050, 12345])
def test_every_sample_of_a_wav_comes_back(tmp_path: Path, channels: int, rate: int) -> None:
    values = torch.linspace(-32768, 32767, 3000 * channels).round().reshape(channels, 3000)
    about = item(channels, 3000, rate=rate)
    path = kind("audio").write(tmp_path / "a.wav", values / 32768, about)
    with wave.open(str(path)) as file:
        assert (file.getnchannels(), file.getsampwidth(), file.getframerate()) == (channels, 2, rate)
        stored = np.frombuffer(file.readframes(9999), "<i2").reshape(-1, channels).T
    assert np.array_equal(stored, values.numpy().astype(np.int16))
    assert torch.equal(kind("audio").read(path, about), values / 32768)
    with av.open(str(path)) as container:
        assert json.loads(container.metadata["comment"]) == ABOUT


def test_a_wav_is_cut_off_at_what_it_holds_and_the_same_each_time(tmp_path: Path) -> None:
    one = write_wav(tmp_path / "a.wav", torch.tensor([[-2.0, 2.0, 1.0, 0.0]]), 8000, ABOUT)
    with wave.open(str(one)) as file:
        assert np.frombuffer(file.readframes(9), "<i2").tolist() == [-32768, 32767, 32767, 0]
    other = write_wav(tmp_path / "b.wav", torch.tensor([[-2.0, 2.0, 1.0, 0.0]]), 8000, ABOUT)
    assert one.read_bytes() == other.read_bytes()


@pytest.mark.parametrize("audio", [torch.zeros(800), torch.zeros(1, 0), torch.full((1, 9), torch.nan)])
def test_what_is_no_audio_is_refused_and_nothing_left(tmp_path: Path, audio: Tensor) -> None:
    with pytest.raises(DataError, match="audio to write"):
        write_wav(tmp_path / "a.wav", audio, 8000)
    assert list(tmp_path.iterdir()) == []


def test_video_alone_has_no_audio_stream_and_the_frames_of_one_with_it(tmp_path: Path) -> None:
    video = torch.sin(torch.arange(3 * 5 * 16 * 24) / 90).reshape(3, 5, 16, 24)
    about = item(3, 5, 16, 24, rate=12.5)
    alone = kind("video").write(tmp_path / "a.mp4", video, about)
    both = write_mp4(tmp_path / "b.mp4", video, torch.zeros(1, 3200), 12.5, 8000)
    found = []
    for path, streams in ((alone, ["video"]), (both, ["video", "audio"])):
        with av.open(str(path)) as container:
            assert [stream.type for stream in container.streams] == streams
            assert float(container.streams.video[0].average_rate) == 12.5
            found.append(np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]))
    assert found[0].shape == (5, 16, 24, 3)
    assert np.array_equal(*found)
    assert float((kind("video").read(alone, about) - video).abs().mean()) < 0.1


@pytest.mark.parametrize("text", ["seven", "", "Ä ö\n\nthird line", "trailing \n", "<b>&"])
def test_a_text_comes_back(tmp_path: Path, text: str) -> None:
    path = kind("text").write(tmp_path / "a.txt", text, item(1))
    assert path.read_bytes() == text.encode() + b"\n"
    assert kind("text").read(path, item(1)) == text


@pytest.mark.parametrize("shape", [(1,), (4, 3), (2, 3, 4)])
def test_a_vector_comes_back_to_the_bit(tmp_path: Path, shape: tuple[int, ...]) -> None:
    media = torch.randn(shape, generator=torch.Generator().manual_seed(0)) * 1e6
    path = kind("vector").write(tmp_path / "a.safetensors", media, item(*shape))
    assert torch.equal(kind("vector").read(path, item(*shape)), media)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("a.png", "image"), ("a.JPG", "image"), ("a.wav", "audio"), ("a.flac", "audio"), ("a.mp4", "video"),
        ("a.mkv", None), ("a.txt", "text"), ("a.safetensors", "vector"), ("a.gif", None), ("a", None), ("a.xyz", None),
    ],
)  # fmt: skip
def test_a_file_is_of_the_kind_that_its_name_says_if_any(name: str, expected: str | None) -> None:
    assert kind_of_file(Path(name)) == expected


class Broken:
    def write(self, path, media, item):
        raise ZeroDivisionError("oh")

    def read(self, path, item):
        return torch.zeros(9)

    def card(self, path, source):
        raise KeyError("oh")


def test_a_kind_that_breaks_its_contract_is_named(tmp_path: Path) -> None:
    broken = OpenKind(KindSpec("roll", "", lazy("x:y"), 1, ".roll", owner="mmdisco-x 1.0"), Broken())
    named = "plugin mmdisco-x 1.0: kind 'roll': "
    for call, said in (
        (lambda: broken.write(tmp_path / "a.roll", torch.zeros(1), item(1)), "write fails for a.roll: ZeroDivision"),
        (lambda: broken.read(tmp_path / "a.roll", item(1)), r"read gives \(9,\), not \(1,\)"),
        (lambda: broken.card(tmp_path / "a.roll", "a.roll"), "card fails for a.roll: KeyError"),
    ):
        with pytest.raises(PluginError, match=named + said):
            call()
    idle = type("Idle", (Broken,), {"write": lambda self, path, media, item: None})()
    with pytest.raises(PluginError, match=named + "write writes no file"):
        OpenKind(broken.spec, idle).write(tmp_path / "a.roll", torch.zeros(1), item(1))
    for write in (_twice, _twice_and_fails):
        eager = type("Eager", (Broken,), {"write": write, "card": lambda self, path, source: None})()
        with pytest.raises(PluginError, match=named + "write (writes more than the one file|fails)"):
            OpenKind(broken.spec, eager).write(tmp_path / "a.roll", torch.zeros(1), item(1))
    with pytest.raises(PluginError, match=named + "card gives NoneType, not HTML"):
        OpenKind(broken.spec, eager).card(tmp_path / "a.roll", "a.roll")
    assert list(tmp_path.iterdir()) == []


def _twice(self, path: Path, media: Tensor, item: Item) -> None:
    path.write_bytes(b"x")
    path.with_suffix(".more").write_bytes(b"y")


def _twice_and_fails(self, path: Path, media: Tensor, item: Item) -> None:
    _twice(self, path, media, item)
    raise ValueError("oh")


def test_what_a_kind_reads_is_finite_and_of_one_type(tmp_path: Path) -> None:
    spec = KindSpec("roll", "", lazy("x:y"), 1, ".ROLL", owner="mmdisco-x 1.0")
    for media, said in (
        (torch.full((1,), torch.inf), "a.Roll: holds values that are not finite"),
        (torch.ones(1).long(), ""),
    ):
        found = OpenKind(spec, type("Fixed", (Broken,), {"read": lambda self, path, item, x=media: x})())
        assert found.owns(tmp_path / "a.Roll")
        if said:
            with pytest.raises(DataError, match=said):
                found.read(tmp_path / "a.Roll", item(1))
        else:
            assert found.read(tmp_path / "a.Roll", item(1)).dtype == torch.float32


SAMPLES = {
    "audio": (torch.linspace(-1, 1, 800)[None], 8000.0),
    "video": (torch.sin(torch.arange(3 * 5 * 16 * 16) / 90).reshape(3, 5, 16, 16), 10.0),
    "image": (steps(3, 6, 4), None),
    "text": ("<b>seven</b><script>x</script>", None),
    "vector": (torch.randn(4, 5), None),
}


@pytest.mark.parametrize("name", KINDS)
def test_the_built_in_kinds_conform(name: str) -> None:
    media, rate = SAMPLES[name]
    shape = tuple(media.shape) if isinstance(media, Tensor) else (1,)
    check_kind(lambda: kind(name).kind, kind(name).spec.suffix, media, item(*shape, rate=rate).plan)


@pytest.mark.parametrize(
    ("member", "broken", "said"),
    [
        ("write", lambda self, path, media, item: None, "write writes no file"),
        ("write", lambda self, path, media, item: path.write_text(f"{media}{path.name}"), "not what was written"),
        ("read", lambda self, path, item: 7, "read gives int, not str"),
        ("card", lambda self, path, source: None, "card gives None, not HTML"),
        ("card", lambda self, path, source: f"<i>{path.name}</i>", "does not escape"),
        ("card", lambda self, path, source: "<p>x</p><script>y</script>", "card has a script"),
        ("card", lambda self, path, source: "<p>x<br><img src='a'></div></p>", "does not close what it opens"),
        ("card", lambda self, path, source: "<p>x", "does not close what it opens"),
        ("write", lambda self, path, m, item: [p.write_text(m) for p in (path, path.with_suffix(".x"))], "other files"),
        ("misfit", lambda self, plan: "never", "media of its own plan do not fit it"),
        ("change", lambda self, path, item: "all", "its own files are said to be changed"),
    ],
)
def test_a_kind_that_is_dishonest_is_named(member, broken, said) -> None:
    dishonest = type("Dishonest", (TextKind,), {member: broken})
    with pytest.raises(AssertionError, match=said):
        check_kind(dishonest, ".txt", "<b>seven</b>", item(1).plan)
