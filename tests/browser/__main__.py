"""`make e2e`: the dashboard on an embedded stack, in a real Chromium, looked at in light, in dark and on a phone.

Fails by any error of the console, by what axe-core finds serious or critical, and by a page that scrolls sideways.
Pictures of all pages are in the folder that is named.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path

from playwright.sync_api import Browser, sync_playwright

from tests.browser import analysing, story
from tests.browser.stack import Stack, embedded
from tests.browser.straight import straight
from tests.browser.watching import LOOKS, Findings, launch, picture

_LARGE = 20 << 20
_PLAIN = {
    "overview": "",
    "jobs": "jobs",
    "new-job": "jobs/new",
    "datasets": "datasets",
    "comparisons": "comparisons",
    "try-it": "images",
    "models": "models",
    "more": "more",
    "error": "jobs/ftjob_none",
}
_CHOSEN = Path(sys.argv[1] if len(sys.argv) > 1 else "e2e-pictures")


def say(line: str) -> None:
    """Tell how far it has got."""
    print(line, flush=True)


@dataclass
class Walk:
    """What all parts of it have at hand; `pages` are those to be pictured, by name."""

    browser: Browser
    stack: Stack
    archive: Path
    folder: Path
    findings: Findings
    pages: dict[str, str]


def main() -> None:
    """Walk through everything."""
    shutil.rmtree(_CHOSEN, ignore_errors=True)
    _CHOSEN.mkdir(parents=True)
    findings = Findings()
    with tempfile.TemporaryDirectory(prefix="difftune-e2e-") as name, sync_playwright() as playwright:
        folder = Path(name)
        archive = folder / "flowers.zip"
        sample = [sys.executable, "-m", "cli", "sample-data", str(archive), "--per-class", "12"]
        subprocess.run(sample, check=True, capture_output=True)
        data = folder / "data"
        data.mkdir(mode=0o700)
        with embedded(data) as stack:
            walk = Walk(launch(playwright), stack, archive, folder, findings, {})
            with_scripts(walk)
            without_scripts(walk)
            pictures(walk)
            reports(walk)
        apart = folder / "straight"
        apart.mkdir()
        straight(walk.browser, findings, large(walk), apart)
        say("an archive in parts: straight to a store, on after a loss, and through the service where that is refused")
        walk.browser.close()
    say(f"pictures of all pages: {_CHOSEN}")
    for line in findings.lines:
        print(line, file=sys.stderr)
    raise SystemExit(1 if findings.lines else 0)


def large(walk: Walk) -> Path:
    """An archive of three parts: most of it is a file that is no image."""
    path = walk.folder / "large.zip"
    shutil.copy(walk.archive, path)
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("notes.bin", os.urandom(_LARGE))
    return path


def with_scripts(walk: Walk) -> None:
    """Do it all with JavaScript, without loading a page that is watched again."""
    with walk.browser.new_context() as context:  # whose console tells of the connection that is cut
        story.go_on_uploading(story.log_in(context, Findings(), walk.stack), large(walk))
    with walk.browser.new_context(accept_downloads=True) as context:
        page = story.log_in(context, walk.findings, walk.stack)
        walk.pages["dataset"] = story.upload(page, walk.archive, live=True)
        walk.pages["job"] = story.submit(page, "flowers", 0)
        story.watch(page, live=True)
        story.look_at_samples(page)
        story.take_away(page, walk.findings, walk.folder)
        walk.pages["drawn"] = story.draw(page)
    say("with scripts: logged in, uploaded, went on with an upload, submitted, watched, took the result away, drew")


def without_scripts(walk: Walk) -> None:
    """Do the same without JavaScript."""
    with walk.browser.new_context(accept_downloads=True, java_script_enabled=False) as context:
        page = story.log_in(context, walk.findings, walk.stack)
        story.upload(page, walk.archive, live=False)
        second = story.submit(page, "flowers-again", 1)
        story.watch(page, live=False)
        page.get_by_role("link", name="0", exact=True).click()
        page.get_by_alt_text("Sample images of step 0", exact=True).wait_for()
        with page.expect_download() as waiting:
            page.get_by_role("link", name="Download for diffusers").click()
        waiting.value.save_as(walk.folder / "second.zip")
    jobs = [address.rpartition("/")[2] for address in (walk.pages["job"], second)]
    walk.pages["compare-jobs"] = f"{walk.stack.url}/comparisons/jobs?job={jobs[0]}&job={jobs[1]}"
    say("without scripts: the same")


def pictures(walk: Walk) -> None:
    """Take pictures of every page in every look."""
    with walk.browser.new_context() as context:
        page = story.log_in(context, walk.findings, walk.stack)
        walk.pages["comparison"] = story.start_comparison(page)
    for look, options in LOOKS.items():
        with walk.browser.new_context(**options) as context:
            picture(context, walk.findings, f"{walk.stack.url}/login", f"login-{look}", _CHOSEN)
            story.log_in(context, walk.findings, walk.stack).close()
            for name, path in _PLAIN.items():
                quiet = walk.findings if name != "error" else Findings()  # its 404 is what is looked at
                picture(context, quiet, f"{walk.stack.url}/{path}", f"{name}-{look}", _CHOSEN)
            for name, url in walk.pages.items():
                picture(context, walk.findings, url, f"{name}-{look}", _CHOSEN)


def reports(walk: Walk) -> None:
    """Have a chain of forgetting analysed; look at that report and the comparison's as at pages."""
    with walk.browser.new_context() as context:
        job, comparison = (walk.pages[name].rpartition("/")[2] for name in ("job", "comparison"))
        texts = analysing.reports(context.request, walk.stack, job, comparison)
    for look, options in LOOKS.items():
        with walk.browser.new_context(**options) as context:
            for name, text in texts.items():
                place = _CHOSEN / f"{name}-{look}.png"
                walk.findings.ask_axe_of_text(context, text, f"{name}-{look}", place)
    say("reports: of a comparison and of a chain of forgetting")


main()
