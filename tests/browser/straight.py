"""Uploads on an embedded stack whose objects are in a store that speaks S3: a page sends their parts straight to it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

from playwright.sync_api import Browser, Page, Route, expect

from tests.browser import story
from tests.browser.stack import Stack, embedded
from tests.browser.watching import Findings
from tests.s3_servers import BUCKET, SwiftServer

_LONG_MS = 600_000
_PARTS = 3


@dataclass
class _Roads:
    """Which parts went where, and where none come through."""

    page: Page
    store: str
    straight: int = 0
    through_service: int = 0
    closed: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.page.route(re.compile(rf"^{re.escape(self.store)}/"), self._to_store)
        self.page.route(re.compile(r"/uploads/[^/]+/parts\?"), self._to_service)

    def _to_store(self, route: Route) -> None:
        if "store" in self.closed:
            route.abort()
            return
        self.straight += 1
        route.continue_()

    def _to_service(self, route: Route) -> None:
        if "service" in self.closed:
            route.abort()
            return
        self.through_service += 1
        route.continue_()

    def send(self, archive: Path) -> None:
        """Choose a file and send it."""
        self.page.get_by_role("link", name="Data sets", exact=True).click()
        self.page.get_by_label("Archive", exact=True).set_input_files(archive)
        self.page.get_by_role("button", name="Upload").click()

    def arrives(self) -> None:
        """Wait for the data set's page."""
        self.page.wait_for_url(re.compile(r"/datasets/ds_"), timeout=_LONG_MS)


def straight(browser: Browser, findings: Findings, archive: Path, folder: Path) -> None:
    """Send an archive of three parts to the store, all at once and after a loss, and through the service without it."""
    server = SwiftServer(folder / "swift")
    server.start()
    try:
        settings = {f"DIFFTUNE_{name.upper()}": value for name, value in server.settings.items()}
        settings["DIFFTUNE_STORE_URL"] = f"s3://{BUCKET}"
        environment = {**os.environ, **settings, "DIFFTUNE_DATA_DIR": str(folder / "data")}
        subprocess.run([sys.executable, "-m", "api.storage"], check=True, env=environment)
        (folder / "data").mkdir(mode=0o700, exist_ok=True)
        with embedded(folder / "data", settings) as stack:
            _whole(browser, findings, stack, server.endpoint, archive)
            _after_a_loss(browser, stack, server.endpoint, archive)
            _through_the_service(browser, stack, server.endpoint, archive)
    finally:
        server.stop()


def _whole(browser: Browser, findings: Findings, stack: Stack, store: str, archive: Path) -> None:
    with browser.new_context() as context:
        roads = _Roads(story.log_in(context, findings, stack), store)
        roads.send(archive)
        roads.arrives()
        assert (roads.straight, roads.through_service) == (_PARTS, 0), roads


def _after_a_loss(browser: Browser, stack: Stack, store: str, archive: Path) -> None:
    with browser.new_context() as context:
        roads = _Roads(story.log_in(context, Findings(), stack), store)
        first: list[Route] = []

        def lose_all_but_one(route: Route) -> None:
            if first:
                roads.closed |= {"store", "service"}
            first.append(route)
            route.fallback()

        roads.page.route(re.compile(rf"^{re.escape(store)}/"), lose_all_but_one)
        roads.send(archive)
        expect(roads.page.get_by_text("The connection was lost.")).to_be_visible(timeout=_LONG_MS)
        roads.closed.clear()
        first.clear()
        roads.page.unroute(re.compile(rf"^{re.escape(store)}/"), lose_all_but_one)
        roads.page.reload()
        roads.send(archive)
        roads.arrives()
        assert (roads.straight, roads.through_service) == (_PARTS, 0), roads


def _through_the_service(browser: Browser, stack: Stack, store: str, archive: Path) -> None:
    with browser.new_context() as context:
        roads = _Roads(story.log_in(context, Findings(), stack), store)
        roads.closed.add("store")
        roads.send(archive)
        roads.arrives()
        assert (roads.straight, roads.through_service) == (0, _PARTS), roads
