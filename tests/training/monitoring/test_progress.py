"""progress.html: what it holds, that it needs no network, and how it looks in a browser."""

import re
import shutil
from pathlib import Path

import pytest
import torch

from mmdisco_cli.data.media import write_mp4
from mmdisco_cli.recipes import recipe as recipes
from mmdisco_cli.training.directory import RunDirectory
from mmdisco_cli.training.monitoring.preview_rows import add_preview
from mmdisco_cli.training.monitoring.progress import Ending, ProgressPage
from mmdisco_cli.training.monitoring.signs import GAIN, Sign

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
FLAGS = ("--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking", "--disable-sync")
STEPS = (100, 200, 300)
SIGN = Sign("unstable gradient", "loss 1e+14 <b>", 150, "train.learning_rate lower")


def rows() -> list[dict[str, float]]:
    plain = {"loss": 2.0, "disc": 1.2, "accuracy": 0.6, "gain": 0.1, "grad_norm": 1.0, "learning_rate": 1e-3}
    return [{"stage": 0, "step": step, **plain} for step in range(50, 301, 50)]


def heldout() -> list[dict[str, object]]:
    return [
        {"step": step, "disc": 1.3, "accuracy": 0.6, "gain": step / 1000, "gain_by_log_snr": {"-1": 0.1, "+1": 0.3}}
        for step in STEPS
    ]


@pytest.fixture
def directory(tmp_path: Path) -> RunDirectory:
    """Return the directory of a run with previews of two kinds."""
    (tmp_path / "run.yaml").write_text("summary: a run\n")
    folder = tmp_path / "a run & #1"
    for step in STEPS:
        place = folder / "previews" / str(step)
        place.mkdir(parents=True)
        sound = torch.sin(torch.arange(16000) / 10)[None] * 0.5
        write_mp4(place / "0.mp4", torch.rand(3, 10, 32, 32) * 2 - 1, sound, 10, 16000)
        (place / "0.txt").write_text("words <i>said</i>")
        files = {"video": f"previews/{step}/0.mp4", "audio": f"previews/{step}/0.mp4", "text": f"previews/{step}/0.txt"}
        kinds = {"video": "video", "audio": "audio", "text": "text"}
        prompt = "a <b> ball"
        add_preview(folder / "previews", {"step": step, "index": 0, "prompt": prompt, "files": files, "kinds": kinds})
    return RunDirectory(folder, recipes.load(str(tmp_path / "run.yaml")))


def written(directory: RunDirectory, signs: list[Sign], *, ending: Ending | None = None) -> Path:
    page = ProgressPage(directory, "discriminator", 400, GAIN)
    page.write(rows(), heldout(), signs, ending=ending)
    return directory.path / "progress.html"


def test_the_page_holds_curves_previews_and_warnings(directory: RunDirectory) -> None:
    page = written(directory, [SIGN]).read_text()
    assert "step 300 of 400" in page
    assert "Best on held-out clips: step 300, gain 0.3" in page
    assert "Unstable gradient since step 150" in page
    assert "loss 1e+14 &lt;b&gt;. Try train.learning_rate lower." in page
    for title in ("Classification loss, Eq. (4)", "Gain", "Gain by noise level", "Accuracy", "Norm of the gradient"):
        assert page.count(f"<h3>{title}</h3>") == 1
    assert "learning_rate</h3>" not in page
    assert page.count('class="c-time"') == 3 * 2  # curve and legend of three measurements
    assert re.findall(r"<figcaption>(step \d+)</figcaption>", page) == [f"step {step}" for step in STEPS]
    assert page.count("<video ") == 3  # video and its audio are one file
    assert page.count("words &lt;i&gt;said&lt;/i&gt;") == 3
    assert "a &lt;b&gt; ball" in page
    assert 'src="previews/100/0.mp4"' in page
    assert not re.search(r"(src|href)=\"(https?:)?//", page)


def test_it_is_loaded_again_until_training_has_ended(directory: RunDirectory) -> None:
    running, ended = (written(directory, [], ending=over).read_text() for over in (None, Ending()))
    assert "location.reload()" in running
    assert "location.reload()" not in ended
    assert "all steps taken" in ended
    assert "No sign of failing" in ended


def test_it_is_not_written_at_every_line_but_at_once_where_there_is_news(directory: RunDirectory) -> None:
    page, path = ProgressPage(directory, "discriminator", 400, GAIN), directory.path / "progress.html"
    page.write(rows()[:1], [], [])
    assert "step 50 of 400" in path.read_text()
    page.write(rows()[:2], [], [])
    assert "step 50 of 400" in path.read_text()
    page.write(rows()[:2], [], [], now=True)
    assert "step 100 of 400" in path.read_text()
    assert "Nothing is measured on held-out clips yet" in path.read_text()


def test_a_preview_that_is_gone_or_a_page_that_cannot_be_written_ends_no_training(
    directory: RunDirectory, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.rmtree(directory.path / "previews" / "100")
    assert "step 200</figcaption>" in written(directory, []).read_text()
    path = directory.path / "progress.html"
    path.unlink()
    path.mkdir()
    written(directory, [])
    assert "warning: progress.html: " in capsys.readouterr().err


@pytest.mark.browser
@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium")
def test_in_a_browser_long_words_and_many_warnings_fit_a_phone(directory: RunDirectory) -> None:
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    long = "W" * 140 + "/path/without/any/space" * 6
    path = written(directory, [Sign(f"sign {k}", long, k, long) for k in range(8)], ending=Ending(long, long))
    with playwright.sync_playwright() as started:
        browser = started.chromium.launch(executable_path=CHROMIUM, headless=True, args=FLAGS)
        for width in (1280, 390):
            page = browser.new_page(viewport={"width": width, "height": 900})
            page.goto(path.resolve().as_uri())
            assert page.evaluate("document.documentElement.scrollWidth") <= width
            assert page.locator(".verdict.bad").count() == 9
        browser.close()


@pytest.mark.browser
@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium")
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_in_a_browser_it_plays_fits_and_shows_what_is_written_later(directory: RunDirectory, scheme: str) -> None:
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    path, complaints, requests = written(directory, [SIGN]), [], []
    with playwright.sync_playwright() as started:
        browser = started.chromium.launch(executable_path=CHROMIUM, headless=True, args=FLAGS)
        for width in (1280, 400):
            page = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
            page.on("console", lambda message: complaints.append(message.text))
            page.on("pageerror", lambda error: complaints.append(str(error)))
            page.on("request", lambda request: requests.append(request.url))
            page.clock.install()
            page.goto(path.resolve().as_uri())
            page.wait_for_function("[...document.querySelectorAll('video')].every(v => v.readyState >= 1)")
            assert page.evaluate("document.documentElement.scrollWidth") <= width
            assert page.locator(".verdict.bad").count() == 1
            boxes = [page.locator(".through figure").nth(k).bounding_box() for k in (0, 1)]
            assert boxes[0]["y"] == boxes[1]["y"]  # side by side, on a phone too
            red, green, blue = map(int, page.evaluate(
                "getComputedStyle(document.body).backgroundColor.match(/\\d+/g).slice(0, 3)"
            ))  # fmt: skip
            assert (red + green + blue < 120) == (scheme == "dark")
            written(directory, [])
            page.clock.run_for(11000)
            page.wait_for_selector(".verdict.good")
            written(directory, [SIGN])
        browser.close()
    assert complaints == []
    assert all(url.startswith(("file:", "data:")) for url in requests)
