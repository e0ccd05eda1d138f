"""A real browser for the session, without a network."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import platformdirs
import pytest

from tests.fakes.browser import Browser, Page, find_browser, running_browser


@pytest.fixture(scope="session")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    path, reason = find_browser(Path(platformdirs.user_cache_dir("lrem-os")) / "test-browser")
    if not path:
        pytest.skip(reason)
    with running_browser(path, tmp_path_factory.mktemp("browser")) as running:
        yield running


@pytest.fixture
def page(browser: Browser, tmp_path: Path) -> Iterator[Page]:
    """A tab of its own; downloads land in ``tmp_path / "downloads"``."""
    page = browser.page(tmp_path / "downloads")
    yield page
    page.close()
