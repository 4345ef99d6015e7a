"""Pages in a browser: clips play, sorting sorts, nothing is fetched and the console stays empty."""

import json
import shutil
from pathlib import Path

import pytest
import torch

from mmdisco_cli.app import run as mmdisco
from mmdisco_cli.data.media import write_mp4
from mmdisco_cli.errors import ExitCode
from mmdisco_cli.page.gallery import write_gallery
from mmdisco_cli.page.shell import document

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
pytestmark = [pytest.mark.browser, pytest.mark.slow, pytest.mark.skipif(CHROMIUM is None, reason="no Chromium")]
ASSETS = Path(__file__).parent.parent / "assets"
# Besides what lets it run as root and play by itself: it makes no network requests of its own.
FLAGS = (
    "--no-sandbox", "--autoplay-policy=no-user-gesture-required", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
)  # fmt: skip
# Until it has played for a while, however slow the machine is.
PLAY = """async v => {
  v.muted = true;
  await v.play();
  for (let k = 0; k < 200 && v.currentTime <= 0.25; k++) await new Promise(r => setTimeout(r, 100));
  return v.currentTime;
}"""


@pytest.fixture(scope="module")
def browser():
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    with playwright.sync_playwright() as started:
        found = started.chromium.launch(executable_path=CHROMIUM, headless=True, args=FLAGS)
        yield found
        found.close()


class Opened:
    """A page with its console errors and network requests."""

    def __init__(self, browser, path, **options):
        self.complaints, self.requests = [], []
        self.page = browser.new_page(**options)
        self.page.on("console", lambda message: self.complaints.append(message.text))
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.goto(path.resolve().as_uri())
        self.page.wait_for_function("[...document.querySelectorAll('video')].every(v => v.readyState >= 1)")

    def values(self, key):
        script = "key => [...document.querySelectorAll('article')].map(a => JSON.parse(a.dataset.values)[key])"
        return self.page.evaluate(script, key)


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    folder = tmp_path_factory.mktemp("report")
    samples = folder / "samples"
    samples.mkdir()
    for path in [*ASSETS.glob("*.mp4"), *(Path(__file__).parent.parent / "measures/clips").glob("*.mp4")]:
        shutil.copy(path, samples / path.name)
    torch.manual_seed(0)
    # Larger than is embedded as it is: a small copy takes its place, and says so.
    noise = torch.rand(3, 16, 256, 320) * 2 - 1
    write_mp4(samples / "a <b> & #1.mp4", noise, 0.1 * torch.randn(1, 25600), 10, 16000)
    (samples / ("verylongname" * 12 + ".mp4")).write_bytes(b"no video")
    code = mmdisco(
        [
            "eval",
            *("--samples", str(samples), "--reference", str(ASSETS), "--independent", str(ASSETS)),
            *("--max-bad", "0.2", "--out", str(folder / "out"), "--cache", str(folder / "cache")),
        ]
    )
    assert code == ExitCode.OK
    return folder / "out" / "report.html"


def test_a_report_plays_sorts_and_asks_for_nothing(browser, report):
    opened = Opened(browser, report)
    page = opened.page
    assert page.locator(".verdict .says").inner_text()
    # The first thing on the page, after its title.
    assert page.evaluate("document.querySelector('header').nextElementSibling.className").startswith("verdict")
    videos = page.locator("video")
    assert videos.count() == 8 + 2 * 5
    assert videos.nth(0).evaluate(PLAY) > 0.2
    assert page.locator("text=small copy").count() == 1
    for key in ("guided.av_align", "guided.rms_db", "real.motion"):
        for sign in (-1, 1):
            page.select_option("#order", f"{key} {sign}")
            shown = [value for value in opened.values(key) if value is not None]
            assert shown == sorted(shown, reverse=sign < 0)
            assert len(shown) >= 4
            missing = [value is None for value in opened.values(key)]
            assert missing == sorted(missing)
    page.select_option("#order", "")
    assert page.evaluate("[...document.querySelectorAll('article')].map(a => +a.dataset.index)") == list(range(8))
    assert page.locator(".marks .seen").count() > 0
    assert page.locator(".marks .heard").count() > 0
    assert [url for url in opened.requests if not url.startswith("data:")] == [report.resolve().as_uri()]
    assert opened.complaints == []


def test_controls_lie_below_the_frames_and_work_by_keys(browser, report):
    page = Opened(browser, report).page
    clip = page.locator(".clip").first
    video, bar = clip.locator("video"), clip.locator(".bar")
    assert video.evaluate("v => v.controls") is False
    frame, below = video.bounding_box(), bar.bounding_box()
    assert below["y"] >= frame["y"] + frame["height"]
    assert bar.get_attribute("aria-label").startswith("controls of ")
    video.evaluate("v => { v.muted = true }")
    play = bar.locator("button").first
    play.press("Enter")
    page.wait_for_function("v => v.currentTime > 0.1", arg=video.element_handle())
    assert play.inner_text() == "Pause"
    play.press("Enter")
    assert video.evaluate("v => v.paused")
    bar.locator("input").fill("0.5")
    assert video.evaluate("v => v.currentTime") == pytest.approx(0.5, abs=0.05)
    # Everything to press has a name, and every image a text.
    named = "e => (e.innerText || e.labels?.[0]?.innerText || e.getAttribute('aria-label') || '').trim() !== ''"
    assert page.evaluate(f"[...document.querySelectorAll('button, input, select, a')].every({named})")
    assert page.evaluate("[...document.images].every(i => i.alt)")


def test_a_click_on_the_video_strip_moves_the_video(browser, report):
    page = Opened(browser, report).page
    figure = page.locator("figure").first
    box = figure.locator(".time").bounding_box()
    figure.locator(".time").click(position={"x": box["width"] / 2, "y": 10})
    length = float(figure.locator(".time").get_attribute("data-seconds"))
    assert figure.locator("video").evaluate("v => v.currentTime") == pytest.approx(length / 2, rel=0.05)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_report_fits_a_phone_and_the_dark(browser, report, scheme):
    opened = Opened(browser, report, viewport={"width": 380, "height": 800}, color_scheme=scheme)
    assert opened.page.evaluate("document.documentElement.scrollWidth") <= 380
    red, green, blue = (
        int(part) for part in opened.page.evaluate(
            "getComputedStyle(document.body).backgroundColor.match(/\\d+/g).slice(0, 3)"
        )
    )  # fmt: skip
    assert (red + green + blue < 120) == (scheme == "dark")
    assert opened.complaints == []


def test_a_gallery_plays_its_videos_and_shows_the_others_on_request(browser, tmp_path):
    for name in ("0.mp4", "1.mp4", "independent/0.mp4"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        shutil.copy(ASSETS / "mmd_aist_13.mp4", tmp_path / name)
    rows = [
        {"path": "0.mp4", "index": 0, "seed": 0, "logit": 1.0, "guided": True, "independent": "independent/0.mp4"},
        {"path": "1.mp4", "index": 1, "seed": 0, "logit": 2.0, "guided": True},
    ]
    opened = Opened(browser, write_gallery(tmp_path, rows, title="t"))
    page = opened.page
    assert page.locator("video").first.evaluate(PLAY) > 0.2
    assert page.locator(".row-independent").is_hidden()
    page.check("#compare")
    assert page.locator(".row-independent").is_visible()
    page.select_option("#order", "guided.logit -1")
    assert opened.values("guided.logit") == [2.0, 1.0]
    assert {Path(url).name for url in opened.requests if not url.startswith("data:")} <= {
        "index.html",
        "0.mp4",
        "1.mp4",
    }
    assert opened.complaints == []


def test_independent_samples_are_shown_though_they_are_hidden_beside_guided_ones(browser, tmp_path):
    shutil.copy(ASSETS / "mmd_aist_13.mp4", tmp_path / "0.mp4")
    rows = [{"path": "0.mp4", "index": 0, "seed": 0, "logit": 1.0, "guided": False}]
    page = Opened(browser, write_gallery(tmp_path, rows, title="t")).page
    assert page.locator("figure.row-independent video").is_visible()
    page.select_option("#order", "independent.logit -1")


@pytest.mark.parametrize("alone", [False, True])
def test_only_the_scripts_of_a_page_itself_are_run(browser, tmp_path, alone):
    evil = "<script>document.title = 'run'</script><img alt='' src='data:,' onerror=\"document.title = 'run'\">"
    path = tmp_path / "page.html"
    path.write_text(document("still", evil, alone=alone, scripts=['document.body.id = "own";\n']))
    opened = Opened(browser, path)
    assert opened.page.title() == "still"
    assert opened.page.evaluate("document.body.id") == "own"
    assert len(opened.complaints) == 2
    assert all("Content Security Policy" in one for one in opened.complaints)


def test_the_page_holds_what_the_command_found(report):
    found = json.loads((report.parent / "metrics.json").read_text())
    page = report.read_text()
    assert f"{found['metrics']['av_align']['guided']['value']:.3f}" in page
    assert "a &lt;b&gt; &amp; #1.mp4" in page
    assert "<b> & #1" not in page


def test_a_gallery_of_every_kind_plays_and_fits_a_phone(browser, tmp_path, many):
    opened = Opened(browser, write_gallery(tmp_path, [many], title="t"), viewport={"width": 390, "height": 844})
    page = opened.page
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    assert page.locator("img.image").evaluate_all("all => all.map(i => i.naturalWidth)") == [8, 8]
    assert page.locator("audio").evaluate(PLAY) > 0.1
    assert page.locator("video").evaluate(PLAY) > 0.1
    # One plays at a time, whatever it is.
    assert page.locator("audio").evaluate("a => a.paused")
    left = "h => parseFloat(h.style.left)"
    assert page.locator(".kind-audio .head").evaluate(left) > 0
    assert opened.complaints == []
