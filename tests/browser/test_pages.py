"""Every kind of page in headless Chromium, wide and narrow: nothing runs, overflows, is loaded."""

import pathlib

import pytest

from tests.fixtures import made_pages, run_folder
from vqa_jax.report import run as report

pytestmark = pytest.mark.slow

WIDTHS = {"wide": 1280, "narrow": 390}
# Whether a region has scrolled sideways, within 300 frames.
MOVED = """r => new Promise(done => {
  let left = 300;
  const look = () => r.scrollLeft > 0 || !left-- ? done(left > 0) : requestAnimationFrame(look);
  look();
})"""
KINDS = (*made_pages.PAGES, "run", "empty run")


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    """Kind -> path of its page, each with hostile names in it."""
    found = {}
    for kind, make in made_pages.PAGES.items():
        found[kind] = make(tmp_path_factory.mktemp(kind))
    run = tmp_path_factory.mktemp("run")
    run_folder.make_run(run)
    made_pages.teachers_of(run)  # the run's page shows the same section
    found["run"] = report.build_report(str(run))
    found["empty run"] = report.build_report(str(tmp_path_factory.mktemp("empty")))
    return found


@pytest.fixture
def opened(browser, pages, request):
    """A page of `request.param` = (kind, width), and what it asked for and complained about."""
    kind, width = request.param
    page = browser.new_page(viewport={"width": WIDTHS[width], "height": 900})
    told = []
    page.on("request", lambda r: None if r.url.startswith("data:") else told.append(r.url))
    page.on("pageerror", lambda error: told.append(str(error)))
    page.on("console", lambda message: told.append(message.text))
    page.on("dialog", lambda dialog: (told.append(dialog.message), dialog.dismiss()))
    page.goto(pathlib.Path(pages[kind]).as_uri(), wait_until="load")
    yield page, told
    page.close()


def both_widths(*kinds):
    return pytest.mark.parametrize(
        "opened", [(k, w) for k in kinds for w in WIDTHS], indirect=True, ids=str
    )


@both_widths(*KINDS)
def test_page_opens_without_errors_overflow_or_requests(opened):
    page, told = opened
    page.evaluate("document.querySelectorAll('details').forEach(d => d.open = true)")
    assert told == [page.url]  # itself
    wide, seen = page.evaluate("[document.documentElement.scrollWidth, window.innerWidth]")
    assert wide <= seen
    assert page.evaluate("document.scripts.length") == 0
    broken = "[...document.images].filter(i => !i.complete || !i.naturalWidth).length"
    assert page.evaluate(broken) == 0


@both_widths(*KINDS)
def test_tables_that_scroll_say_so_and_scroll_by_keys(opened):
    page, _ = opened
    page.evaluate("document.querySelectorAll('details').forEach(d => d.open = true)")
    for region in page.query_selector_all(".scroll"):
        scrolls = region.evaluate("r => r.scrollWidth > r.clientWidth + 1")
        hint = region.query_selector(".hint").bounding_box()["width"]
        assert (hint > 100) is scrolls
        assert region.get_attribute("role") == "region" and region.get_attribute("aria-label")
        if scrolls:
            region.focus()
            page.keyboard.press("ArrowRight")
            assert region.evaluate(MOVED)


@both_widths("run", "timeline", "versions", "anchors", "benchmark")
def test_letters_of_charts_are_legible(opened):
    """At least 8 CSS pixels high, as far as the drawing's own size is scaled on the page."""
    page, _ = opened
    for image in page.query_selector_all("figure img"):
        drawn, shown = image.evaluate("i => [i.naturalWidth, i.getBoundingClientRect().width]")
        if "svg" in image.evaluate("i => i.currentSrc.slice(0, 20)"):
            # Charts have letters of 9 points, 12 pixels at their own size.
            assert 8 <= 12 * shown / drawn <= 24
        else:
            assert shown == pytest.approx(drawn, abs=1)  # crops: pixel for pixel


@pytest.mark.parametrize("opened", [("run", "narrow")], indirect=True)
def test_page_follows_the_dark_setting(opened):
    page, _ = opened
    shades = []
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme)
        colour = page.evaluate("getComputedStyle(document.body).backgroundColor")
        shades.append(sum(int(x) for x in colour[4:-1].split(",")))
    assert shades[0] > 600 > 150 > shades[1]
