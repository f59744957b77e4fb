"""Open pages in a headless Chromium, where Playwright and Debian's browser are installed."""

import contextlib
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

CHROMIUM = ("chromium", "chromium-browser", "google-chrome")


@contextlib.contextmanager
def opened(address: str | Path, width: int = 1280, height: int = 900) -> Iterator[Any]:
    """Open a page, and check afterwards that its console has no error and that it has asked for nothing else.

    Args:
        address: an address, or a file.
        width: of the window, in pixels.
        height: of the window, in pixels.
    """
    api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    browser_file = next((found for name in CHROMIUM if (found := shutil.which(name))), None)
    if browser_file is None:
        pytest.skip("no Chromium is installed: apt-get install chromium")
    errors: list[str] = []
    requests: list[str] = []
    url = address.resolve().as_uri() if isinstance(address, Path) else address
    with api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=browser_file, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": width, "height": height})
        page.on("console", lambda message: errors.append(message.text) if message.type == "error" else None)
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.on("request", lambda request: requests.append(request.url))
        page.goto(url)
        yield page
        browser.close()
    assert not errors, errors
    if isinstance(address, Path):
        assert [one for one in requests if not one.startswith("data:") and one != url] == []
