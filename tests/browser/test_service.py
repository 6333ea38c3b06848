"""The service's page in headless Chromium, wide and narrow: upload, result, errors, two videos."""

import pytest

from tests.fixtures import noise_video, running_service, tiny_corpus
from vqa_jax.serving.config import ServeConfig
from vqa_jax.settings import DecodeLimits

pytestmark = pytest.mark.slow

WIDTHS = {"wide": 1280, "narrow": 390}
WAIT = 120_000  # milliseconds


@pytest.fixture(scope="module")
def address(known):
    config = ServeConfig(DecodeLimits(seconds=60), upload_mb=1)
    with (
        tiny_corpus.student_at_work(known) as student,
        running_service.running(student, config) as port,
    ):
        yield f"http://127.0.0.1:{port}/"


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Files that a browser plays: VP8, and one that is none."""
    folder = tmp_path_factory.mktemp("files")
    for name, light in (("good <b>.webm", 1.0), ("dark.webm", 0.2)):
        pictures = list(noise_video.noise(4, lambda _, light=light: light))
        noise_video.write(folder / name, pictures, codec="libvpx", pixels="yuv420p")
    (folder / "text.mp4").write_text("no video")
    (folder / "huge.mp4").write_bytes(bytes(2_000_000))
    return folder


@pytest.fixture(params=WIDTHS)
def page(browser, address, request):
    """The page, and in `page.told` what it asked of elsewhere or complained about."""
    page = browser.new_page(viewport={"width": WIDTHS[request.param], "height": 900})
    page.told = []
    away = lambda url: not url.startswith((address, "data:", "blob:"))  # noqa: E731
    page.on("request", lambda r: page.told.append(r.url) if away(r.url) else None)
    page.on("pageerror", lambda error: page.told.append(str(error)))
    page.on("dialog", lambda dialog: (page.told.append(dialog.message), dialog.dismiss()))
    page.goto(address)
    yield page
    wide, seen = page.evaluate("[document.documentElement.scrollWidth, window.innerWidth]")
    assert wide <= seen and page.told == []
    page.close()


def until(page, condition):
    """Waits for JavaScript to be true; the page's policy lets it wait for nothing by itself."""
    left = WAIT // 50
    while not page.evaluate(condition):
        left -= 1
        assert left, condition
        page.wait_for_timeout(50)


def send(page, *paths):
    page.set_input_files("#files", [str(path) for path in paths])
    page.click("#go")
    page.wait_for_selector("#result:not([hidden]), #error:not([hidden])", timeout=WAIT)


def test_one_video_has_a_score_a_curve_and_worst_moments(page, files):
    send(page, files / "good <b>.webm")
    assert page.inner_text("#result h2 >> nth=0") == "good <b>.webm"
    assert float(page.inner_text(".tile b >> nth=0").split(" ")[0].replace("−", "-"))
    assert page.query_selector_all(".moments img") and page.query_selector("svg.curve path.line")
    assert page.query_selector("section[aria-label='What the student sees'] img")
    assert page.evaluate("document.activeElement.id") == "result"
    until(page, "document.querySelector('video').readyState > 1")
    page.focus("svg.curve")
    page.keyboard.press("ArrowRight")
    until(page, "document.querySelector('video').currentTime === 1")
    until(page, "document.querySelector('svg.curve').ariaValueNow === '1.0'")
    page.click("text=+0.1 s")
    until(page, "document.querySelector('video').currentTime > 1")
    page.click(".moments button >> nth=0")
    until(page, "document.querySelector('video').currentTime % 1 === 0")


def test_two_videos_play_together_and_have_a_verdict(page, files):
    send(page, files / "dark.webm", files / "good <b>.webm")
    assert "B looks better" in page.inner_text(".verdict")
    until(page, "[...document.querySelectorAll('video')].every(v => v.readyState > 1)")
    times = "[...document.querySelectorAll('video')].map(v => v.currentTime)"
    page.fill("input[type=range]", "2.5")
    assert page.evaluate(times) == [2.5, 2.5]
    page.click("text=+0.1 s")
    assert page.evaluate(times) == pytest.approx([2.6, 2.6])
    page.click("text=Play")
    until(page, "document.querySelector('video').currentTime > 3")
    until(page, "[...document.querySelectorAll('video')].every(v => v.currentTime > 3)")
    assert page.inner_text(".bars li:last-child span:last-child").endswith("%")


def test_a_file_that_is_no_video_is_told_with_its_reason(page, files):
    send(page, files / "text.mp4")
    assert "text.mp4: " in page.inner_text("#error") and page.is_hidden("#result")
    send(page, files / "good <b>.webm")  # and the page goes on
    assert page.is_hidden("#error") and page.is_visible("#result")


def test_a_file_that_is_too_large_is_not_sent(page, files):
    page.set_input_files("#files", [str(files / "huge.mp4")])
    assert page.is_disabled("#go") and "1 MB" in page.inner_text("#error")


def test_all_of_it_by_keys_alone(page, files):
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.id") == "files"
    page.set_input_files("#files", [str(files / "dark.webm")])
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.id") == "go"
    page.keyboard.press("Enter")
    page.wait_for_selector("#result:not([hidden])", timeout=WAIT)


def test_the_page_for_programs_names_every_path(page, address):
    page.click("text=For programs")
    page.wait_for_url("**/docs")
    for path in ("/v1/score", "/v1/compare", "/healthz", "/readyz", "/metrics"):
        assert path in page.inner_text("main")
