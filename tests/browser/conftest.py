"""The browser that tests of pages share."""

import shutil

import pytest

INSTALL = "apt-get install -y chromium && pip install playwright"
FLAGS = (
    "--no-sandbox",
    "--no-first-run",
    "--no-proxy-server",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-default-apps",
    "--disable-extensions",
    "--disable-sync",
)


@pytest.fixture(scope="session")
def browser():
    """Headless Chromium; tests skip where there is none."""
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        chromium = None
    if chromium is None:
        pytest.skip(f"no browser: {INSTALL}")
    with sync_playwright() as player:
        found = player.chromium.launch(executable_path=chromium, args=list(FLAGS))
        yield found
        found.close()
