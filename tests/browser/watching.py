"""A browser that notes what goes wrong, takes pictures of pages, and asks axe-core about each."""

from __future__ import annotations

import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, BrowserContext, Page, Playwright

LOOKS: dict[str, dict[str, Any]] = {
    "light": {"viewport": {"width": 1280, "height": 900}, "color_scheme": "light"},
    "dark": {"viewport": {"width": 1280, "height": 900}, "color_scheme": "dark"},
    "phone": {"viewport": {"width": 390, "height": 844}, "color_scheme": "light", "has_touch": True, "is_mobile": True},
}
_GRAVE = {"serious", "critical"}


@dataclass
class Findings:
    """What went wrong, a line each."""

    lines: list[str] = field(default_factory=list)

    def listen(self, page: Page) -> None:
        """Note what the page's console says of errors, and what could not be loaded."""
        page.on("console", lambda said: self._note(page, said.text) if said.type == "error" else None)
        page.on("pageerror", lambda error: self._note(page, str(error)))

    def _note(self, page: Page, text: str) -> None:
        self.lines.append(f"{page.url}: {text}")

    def ask_axe(self, page: Page, name: str) -> None:
        """Note what axe-core finds serious or critical, and a page that scrolls sideways."""
        for found in Axe().run(page).response["violations"]:
            if found["impact"] in _GRAVE:
                where = "; ".join(str(node["target"]) for node in found["nodes"][:3])
                self.lines.append(f"{name}: axe {found['impact']} {found['id']}: {where}")
        wide = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
        if wide > 0:
            self.lines.append(f"{name}: scrolls {wide} pixels sideways")

    def ask_axe_of_text(self, context: BrowserContext, html: str, name: str, place: Path | None = None) -> None:
        """Do as `ask_axe` with a page that lets no script run where it is served, which axe-core is.

        Args:
            context: of a browser.
            html: the page.
            name: what findings are told of.
            place: file for a picture of it.
        """
        page = context.new_page()
        page.set_content(html)
        if place is not None:
            page.screenshot(path=place, full_page=True)
        self.ask_axe(page, name)
        page.close()


def launch(playwright: Playwright) -> Browser:
    """The Chromium of this machine."""
    found = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if found is None:
        raise SystemExit("there is no Chromium (Debian: chromium)")
    return playwright.chromium.launch(executable_path=found, args=["--no-sandbox", "--disable-dev-shm-usage"])


def picture(
    context: BrowserContext, findings: Findings, url: str, name: str, folder: Path, *, by_axe: bool = True
) -> None:
    """Open a page, save how it looks, and ask axe-core."""
    page = context.new_page()
    findings.listen(page)
    answer = page.goto(url, wait_until="load")
    page.wait_for_timeout(300)
    if answer is None or not answer.ok:
        findings.lines.append(f"{name}: {url} answered {answer.status if answer else 'nothing'}")
    page.screenshot(path=folder / f"{name}.png", full_page=True)
    if by_axe:
        findings.ask_axe(page, name)
    page.close()
