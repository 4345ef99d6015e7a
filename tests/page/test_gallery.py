"""The gallery is one page that needs only the videos beside it, and shows any text as text."""

import os
import re
from pathlib import Path
from typing import Any

import pytest
import torch

from mmdisco_cli.data.media import write_mp4
from mmdisco_cli.errors import DataError
from mmdisco_cli.measures.alignment import DEFAULT_RULE, RULES, Peaks, av_align, peaks_of
from mmdisco_cli.measures.analysis import Analysis
from mmdisco_cli.measures.clip import measure_clip
from mmdisco_cli.page.gallery import write_gallery
from mmdisco_cli.page.marking import Marking, Marks


def write_video(path: Path) -> Path:
    path.parent.mkdir(exist_ok=True)
    sound = torch.sin(torch.arange(25600) / 10)[None] * torch.linspace(0, 0.8, 25600)
    video = torch.sin(torch.arange(3 * 16 * 32 * 32) / 500).reshape(3, 16, 32, 32)
    return write_mp4(path, video, sound, 10, 16000, scale=2)


def test_the_page_is_small_complete_and_escaped(tmp_path: Path) -> None:
    write_video(tmp_path / "a b#1.mp4")
    write_video(tmp_path / "independent" / "0.mp4")
    (tmp_path / "broken.mp4").write_bytes(b"no video")
    prompt = '<script>alert("x")</script> & more'
    rows = [
        {
            "path": "a b#1.mp4",
            "index": 0,
            "seed": 7,
            "logit": 1.25,
            "guided": True,
            "prompt": prompt,
            "independent": "independent/0.mp4",
        },
        {"path": str(tmp_path / "broken.mp4"), "index": 1, "seed": 7, "logit": None, "prompt": None},
    ]
    page = write_gallery(tmp_path, rows, title="<bounce>", recipe="bounce").read_text(encoding="utf-8")
    assert "<title>&lt;bounce&gt;</title>" in page
    assert "&lt;script&gt;alert(&quot;x&quot;)&lt;/script&gt; &amp; more" in page
    assert prompt not in page
    for source in ("a%20b%231.mp4", "independent/0.mp4", "broken.mp4"):
        assert f'src="{source}"' in page
    assert page.count("<article") == 2
    assert "&quot;guided.logit&quot;: 1.25" in page
    assert '<option value="guided.logit -1">' in page
    assert 'id="compare"' in page
    assert "http:" not in page
    assert "https:" not in page
    assert len(page) < 2 * 25_000 + 16_000


def test_names_that_are_no_utf_8_are_linked_by_their_bytes(tmp_path: Path) -> None:
    folder = tmp_path / os.fsdecode(b"\xff out")
    names = [os.fsdecode(b"\xfe.mp4"), "\u00f6.mp4", os.fsdecode(b"broken \xfe.mp4")]
    for name in names[:2]:
        write_video(folder / name)
    (folder / names[2]).touch()
    rows = [{"path": name, "index": index, "seed": 0} for index, name in enumerate(names)]
    page = write_gallery(folder, rows, title=folder.name).read_text(encoding="utf-8")
    assert [f'src="{source}"' in page for source in ("%FE.mp4", "%C3%B6.mp4", "broken%20%FE.mp4")] == [True] * 3
    assert " out</title>" in page


def test_a_long_run_is_cut_and_says_so(tmp_path: Path) -> None:
    write_video(tmp_path / "0.mp4")
    rows = [{"path": "0.mp4", "index": index, "seed": 0} for index in range(3)]
    page = write_gallery(tmp_path, rows, title="t", recipe="r", most=2).read_text(encoding="utf-8")
    assert page.count("<article") == 2
    assert "the first 2 of 3 samples" in page
    assert 'id="compare"' not in page


@pytest.mark.parametrize(
    ("line", "row", "caption"),
    [
        ({"guided": True}, "guided", "guided"),
        ({"guided": False}, "independent", "independent"),
        ({}, "samples", "samples"),
        ({"guided": "yes", "given": "video"}, "samples", "samples"),
        ({"guided": True, "given": {"video": "a.mp4"}}, "guided", "guided, video given"),
        ({"guided": False, "given": {"audio": "a.wav"}}, "independent", "independent, audio given"),
    ],
)
def test_a_sample_is_called_what_its_line_says_it_is(tmp_path: Path, line: dict, row: str, caption: str) -> None:
    write_video(tmp_path / "0.mp4")
    page = write_gallery(tmp_path, [{"path": "0.mp4", "index": 0, "seed": 0, "logit": 2.0, **line}], title="t")
    text = page.read_text(encoding="utf-8")
    assert re.findall(r'<figure class="row-(\w+)"><figcaption>(.*?)</figcaption>', text) == [(row, caption)]
    assert re.findall(r'<optgroup label="(.*?)">', text) == [caption]
    assert set(re.findall(r'<option value="(\w+)\.', text)) == {row}
    assert f"&quot;{row}.logit&quot;: 2.0" in text
    kinds = {"guided", "independent", "samples"} - {row}
    assert not any(f">{kind}<" in text or f"row-{kind}" in text.split("<main")[1] for kind in kinds)


def test_what_was_given_is_said_of_the_control_too(tmp_path: Path) -> None:
    write_video(tmp_path / "0.mp4")
    write_video(tmp_path / "independent" / "0.mp4")
    line = {"path": "0.mp4", "index": 0, "seed": 0, "guided": True, "given": {"video": "a.mp4"}}
    page = write_gallery(tmp_path, [line | {"independent": "independent/0.mp4"}], title="t").read_text()
    captions = ["guided, video given", "independent, same noise, video given"]
    assert re.findall(r"<figcaption>(.*?)</figcaption>", page) == captions
    assert re.findall(r'<optgroup label="(.*?)">', page) == captions


def test_a_folder_that_is_not_there_is_a_data_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="cannot write"):
        write_gallery(tmp_path / "absent", [], title="t")


def test_all_files_of_a_sample_stand_on_one_card(tmp_path: Path, many: dict[str, Any]) -> None:
    page = write_gallery(tmp_path, [many], title="t").read_text()
    (card,) = re.findall(r"<article.*?</article>", page, flags=re.DOTALL)
    assert re.findall(r'<img class="image" alt="image" src="(.*?)">', card) == ["a-left.png", "a-right.png"]
    assert re.findall(r'<(video|audio) src="(.*?)"', card) == [("video", "a.mp4"), ("audio", "a.wav")]
    assert '<blockquote class="text">&lt;i&gt;seven&lt;/i&gt; &amp; more</blockquote>' in card
    assert "<code>0.5 -1.25</code>" in card
    assert re.findall(r'<span class="label">(.*?)</span>', card) == ["left", "right", "noise", "word", "x"]
    assert "guided.av_align" in card
    assert 'class="key"' in page


def test_a_sample_without_a_clip_has_no_video_nor_marks(tmp_path: Path, many: dict[str, Any]) -> None:
    row = many
    files = {label: row["files"][label] for label in ("left", "word")}
    kinds = {label: row["kinds"][label] for label in files}
    line = {"path": "a-left.png", "files": files, "kinds": kinds, "index": 0, "seed": 7}
    beside = {"independent": "a-right.png", "independent_files": {"left": "a-right.png", "word": "a.txt"}}
    page = write_gallery(tmp_path, [line | beside], title="t").read_text()
    assert "<video" not in page
    assert 'class="key"' not in page
    assert page.count("<blockquote") == 2
    assert re.findall(r'<img class="image" alt="image" src="(.*?)">', page) == ["a-left.png", "a-right.png"]
    assert 'id="compare"' in page


def test_a_file_that_is_gone_is_said_in_its_place(tmp_path: Path, many: dict[str, Any]) -> None:
    row = many
    (tmp_path / "a.wav").write_bytes(b"RIFF nonsense")
    (tmp_path / "a.txt").unlink()
    page = write_gallery(tmp_path, [row], title="t").read_text()
    assert "a.wav: " in page
    assert "a.txt: " in page
    assert page.count('class="image"') == 2


def test_what_a_protocol_detects_is_marked_in_place_of_motion_and_onsets(tmp_path: Path) -> None:
    write_video(tmp_path / "0.mp4")
    marking = Marking("impacts seen", "strikes heard", lambda clip: Marks((0.4,), (0.8, 1.2), {"event_iou": 0.25}))
    page = write_gallery(tmp_path, [{"path": "0.mp4", "index": 0}], title="t", marking=marking).read_text()
    card = page.split("<main")[1]
    assert re.findall(r'<i class="(seen|heard)" style="left:([\d.]+)%"', card) == [
        ("seen", "25.00"), ("heard", "50.00"), ("heard", "75.00"),
    ]  # fmt: skip
    assert 'role="img" aria-label="seen at 0.40 s; heard at 0.80, 1.20 s"' in card
    assert ">impacts seen<" in page
    assert ">strikes heard<" in page
    assert "motion peaks" not in page
    assert "&quot;samples.event_iou&quot;: 0.25" in card


@pytest.mark.parametrize("clips", [1, 3])
def test_chance_stands_beside_every_av_align(tmp_path: Path, clips: int) -> None:
    for index in range(clips):
        sound = torch.zeros(1, 25600)
        sound[0, 4000 + 6000 * index :] = torch.sin(torch.arange(21600 - 6000 * index) / 10)
        video = torch.sin(torch.arange(3 * 16 * 32 * 32) / (300 + 50 * index)).reshape(3, 16, 32, 32)
        write_mp4(tmp_path / f"{index}.mp4", video, sound, 10, 16000)
    page = write_gallery(tmp_path, [{"path": f"{k}.mp4", "index": k} for k in range(clips)], title="t").read_text()
    beside = re.findall(r"<dt>AV-Align.*?</dt><dd>([\d.]+) <small>chance (\w[\w.]*)</small></dd>", page)
    assert len(beside) == clips
    assert all((chance == "unknown") == (clips == 1) for _, chance in beside)
    chances = [float(text) for text in re.findall(r"av_align_chance&quot;: ([\d.]+)", page)]
    if clips > 1:
        scored = list_of(tmp_path, clips)
        assert sorted(chances) == pytest.approx(sorted(scored))


def list_of(folder: Path, clips: int) -> list[float]:
    """Return what each clip's video scores with the audio of the others, one pair at a time."""
    peaks = [peaks_of(measure_clip(folder / f"{k}.mp4", Analysis()), DEFAULT_RULE) for k in range(clips)]
    crossed = [[Peaks(b.onsets, a.motion, a.frame) for j, b in enumerate(peaks) if j != i] for i, a in enumerate(peaks)]
    return [sum(av_align(one, RULES[DEFAULT_RULE]) or 0.0 for one in row) / len(row) for row in crossed]


def test_files_have_names_links_and_labels(tmp_path: Path, many: dict[str, Any]) -> None:
    page = write_gallery(tmp_path, [many], title="t").read_text()
    links = re.findall(r'<p class="name"><a href="(.*?)">(.*?)</a></p>', page)
    assert links == [(name, name) for name in ("a.mp4", "a-left.png", "a-right.png", "a.wav", "a.txt", "a.safetensors")]
    assert re.findall(r'<video [^>]*aria-label="(.*?)"', page) == ["guided"]
    assert all(re.findall(r"<img [^>]*alt=\"([^\"]+)\"", tag) for tag in re.findall(r"<img [^>]*>", page))
    assert 'aria-label="seen at ' in page or 'aria-label="heard at ' in page


def test_a_guided_sample_stands_beside_an_independent_one_too(tmp_path: Path) -> None:
    write_video(tmp_path / "0.mp4")
    write_video(tmp_path / "guided" / "0.mp4")
    row = {"path": "0.mp4", "index": 0, "guided": False, "beside_guided": "guided/0.mp4"}
    page = write_gallery(tmp_path, [row], title="t").read_text()
    assert re.findall(r'<figure class="row-(\w+)"><figcaption>(.*?)</figcaption>', page) == [
        ("independent", "independent"), ("guided", "guided, same noise"),
    ]  # fmt: skip
    assert "beside guided</label>" in page


def test_arrows_say_which_way_is_good_in_words_too(tmp_path: Path) -> None:
    write_video(tmp_path / "0.mp4")
    page = write_gallery(tmp_path, [{"path": "0.mp4", "index": 0}], title="t").read_text()
    (head,) = re.findall(r"<dt>AV-Align (.*?)</dt>", page)
    assert head == (
        '<span class="way"><span aria-hidden="true">\u2191</span><span class="said">, higher is better</span></span>'
    )
