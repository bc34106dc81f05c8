"""What a person does in the dashboard, from the login to the result taken away; with JavaScript and without."""

from __future__ import annotations

import re
import time
from pathlib import Path

from playwright.sync_api import BrowserContext, Page, Route, expect

from tests.browser.stack import Stack
from tests.browser.watching import Findings

_LONG_MS = 600_000
_HYPER = "method.{method}.hyperparameters."
_SETTINGS = {
    _HYPER + "max_steps": "16",
    _HYPER + "batch_size": "8",
    "evaluation.every_steps": "8",
    "evaluation.num_images": "16",
    "samples.every_steps": "8",
}
_MORE = (
    '{"method": {"diff_tuning": {"hyperparameters": {"retention_set": {"num_images": 32, "num_inference_steps": 4}}}}}'
)


def log_in(context: BrowserContext, findings: Findings, stack: Stack) -> Page:
    """Log in by the form."""
    page = context.new_page()
    findings.listen(page)
    page.goto(f"{stack.url}/jobs?status=running")
    page.get_by_label("API key").fill(stack.key)
    page.get_by_role("button", name="Log in").click()
    expect(page.get_by_role("heading", name="Jobs", level=1)).to_be_visible()
    return page


def upload(page: Page, archive: Path, *, live: bool) -> str:
    """Upload an archive by the form, and wait until it is ready; its page's address."""
    page.get_by_role("link", name="Data sets", exact=True).click()
    page.get_by_label("Archive", exact=True).set_input_files(archive)
    page.get_by_role("button", name="Upload").click()
    page.wait_for_url(re.compile(r"/datasets/ds_"))
    _wait(page, "#found .state.good", live=live)
    expect(page.get_by_text("daisy/0000.png")).to_be_attached()
    return page.url


def go_on_uploading(page: Page, archive: Path) -> None:
    """Lose the connection amid an upload in parts, and send the same file again: only the rest is sent."""
    sent: list[int] = []

    def part(route: Route) -> None:
        sent.append(len(sent))
        if len(sent) == 2:
            route.abort()
        else:
            route.continue_()

    page.route(re.compile(r"/uploads/[^/]+/parts"), part)
    page.get_by_role("link", name="Data sets", exact=True).click()
    page.get_by_label("Archive", exact=True).set_input_files(archive)
    page.get_by_role("button", name="Upload").click()
    expect(page.get_by_text("The connection was lost.")).to_be_visible(timeout=_LONG_MS)
    page.reload()
    page.get_by_label("Archive", exact=True).set_input_files(archive)
    page.get_by_role("button", name="Upload").click()
    page.wait_for_url(re.compile(r"/datasets/ds_"), timeout=_LONG_MS)
    assert len(sent) == 1 + 1 + 2, "the first part, the lost one, and the two that were missing"
    page.unroute(re.compile(r"/uploads/[^/]+/parts"))


def submit(page: Page, name: str, seed: int) -> str:
    """Plan a job on the data set that is shown, and submit it; its page's address."""
    page.get_by_role("link", name="Fine-tune on it").click()
    page.get_by_label("Name", exact=True).fill(name)
    for field, value in {**_SETTINGS, "seed": str(seed)}.items():
        page.locator(f'[name="{field}"]').fill(value)
    page.get_by_text("Everything else").click()
    page.locator("#more").fill(_MORE)
    page.get_by_role("button", name="Show the plan").click()
    expect(page.get_by_role("heading", name="The plan")).to_be_visible()
    page.get_by_role("button", name="Submit").click()
    page.wait_for_url(re.compile(r"/jobs/ftjob_"))
    return page.url


def watch(page: Page, *, live: bool) -> None:
    """See the job run to its end; live without loading the page again."""
    page.evaluate("window.loadedOnce = true") if live else None
    _wait(page, "#samples img", live=live)
    _wait(page, "#standing .state.good", live=live)
    if live:
        assert page.evaluate("window.loadedOnce"), "the page kept itself up to date"
    _wait(page, "#curves svg", live=live)


def look_at_samples(page: Page) -> None:
    """Go from step to step with the keyboard."""
    slider = page.get_by_role("slider")
    slider.focus()
    slider.press("Home")
    expect(page.get_by_alt_text("Sample images of step 0", exact=True)).to_be_visible()
    assert page.evaluate("document.querySelector('#samples img').decode().then(() => true)")


def take_away(page: Page, findings: Findings, folder: Path) -> None:
    """Download the result, and open the report by its link."""
    with page.expect_download(timeout=_LONG_MS) as waiting:
        page.get_by_role("link", name="Download for diffusers").click()
    waiting.value.save_as(folder / "result.zip")
    assert (folder / "result.zip").stat().st_size > 1 << 20
    address = page.url
    page.get_by_role("link", name="Open the report").click()
    page.wait_for_load_state()
    expect(page.get_by_role("heading", level=1)).to_be_visible()
    findings.ask_axe_of_text(page.context, page.context.request.get(page.url).text(), "report")
    page.goto(address)


def draw(page: Page) -> str:
    """Draw images of the job that is shown beside the base model's; the address of their page."""
    page.get_by_role("link", name="Try it", exact=True).last.click()
    page.get_by_label("Class").select_option(index=1)
    page.get_by_role("button", name="Draw", exact=True).click()
    page.wait_for_url(re.compile(r"/images/img_"))
    page.locator("#drawn img").first.wait_for(timeout=_LONG_MS)
    return page.url


def start_comparison(page: Page) -> str:
    """Start a comparison of one seed; its page's address."""
    page.get_by_role("link", name="Compare", exact=True).click()
    page.get_by_label("Seeds").fill("1")
    page.get_by_label("Steps of each job").fill("4")
    page.get_by_role("button", name="Start the jobs").click()
    page.wait_for_url(re.compile(r"/comparisons/(?!new)\w+$"))
    return page.url


def _wait(page: Page, selector: str, *, live: bool) -> None:
    if live:
        page.locator(selector).first.wait_for(state="attached", timeout=_LONG_MS)
        return
    until = time.monotonic() + _LONG_MS / 1000
    while not page.locator(selector).count():
        assert time.monotonic() < until, selector
        page.wait_for_timeout(1000)
        page.reload()
