"""Upload, submit, follow, download."""

from __future__ import annotations

import hashlib
import json
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import openai
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from cli.demo.stack import DemoStack
from cli.settings import read_settings
from cli.stack import STATE_FILE

_POLL_S = 0.5
_TIMEOUT_S = 60.0
_MAX_SIMPLE_BYTES = 64 * 2**20  # larger archives are uploaded in parts
_WIDTH = 120  # where no terminal says how wide it is
_FINAL = {"succeeded", "failed", "cancelled"}
_RETRIES = 60  # polls in a row without an answer
_INTERRUPTED = 130

Comparison = dict[str, Any]


class CompareError(Exception):
    """The comparison cannot be made; the message says why."""


def run_comparison(
    request: dict[str, Any],
    files: dict[str, Path],
    folder: Path,
    *,
    url: str | None,
    key: str | None,
    data_dir: Path | None,
) -> int:
    """Run it and put the report into `folder`; the last line printed is a summary as JSON. Returns the exit status."""
    console = Console(stderr=True, width=None if sys.stderr.isatty() else _WIDTH)
    begin, own_folder = time.monotonic(), read_settings(data_dir).data_dir.expanduser().resolve()
    try:
        for path in files.values():
            if not path.is_file():
                raise CompareError(f"there is no file {path}")  # noqa: TRY301  # all refusals are told in one place
        with _service(url, key, own_folder, console) as service:
            summary = service.run(request, files, folder)
    except (CompareError, openai.OpenAIError, httpx2.HTTPError, OSError, RuntimeError) as error:
        console.print(f"difftune: {error}", style="red", markup=False, highlight=False)
        print(json.dumps({"ok": False, "error": str(error)}))  # noqa: T201  # the command's output
        return 1
    except KeyboardInterrupt:
        console.print("interrupted; a service that runs on finishes what was submitted")
        return _INTERRUPTED
    print(json.dumps({**summary, "seconds": round(time.monotonic() - begin, 1)}))  # noqa: T201  # the command's output
    return 0 if summary["ok"] else 1


@dataclass
class Service:
    """A running service and the two ways to talk to it."""

    client: openai.OpenAI
    http: httpx2.Client
    console: Console

    def run(self, request: dict[str, Any], files: dict[str, Path], folder: Path) -> dict[str, Any]:
        """Everything, in order; the summary of the last line."""
        ids = {field: self._upload(path) for field, path in files.items()}
        made = self._call("POST", "/v1/comparisons", json={**request, **ids})
        methods = ", ".join(method["name"] for method in made["methods"])
        self.console.print(f"submitted {made['id']}: {methods}, seeds {made['seeds']}", highlight=False)
        ended = self._follow(made)
        for said in failures(ended["jobs"]):
            self.console.print(said, style="red", markup=False, highlight=False)
        if ended["status"] != "succeeded":
            message = (ended["error"] or {}).get("message", "")
            raise CompareError(f"{ended['id']} is {ended['status']}. {message}".strip())
        return self._summary(ended, self._download(ended, folder))

    def _upload(self, path: Path) -> str:
        self.console.print(f"uploading {path}", markup=False, highlight=False)
        if path.stat().st_size <= _MAX_SIMPLE_BYTES:
            return self.client.files.create(file=path, purpose="fine-tune").id
        upload = self.client.uploads.upload_file_chunked(file=path, mime_type="application/zip", purpose="fine-tune")
        if upload.file is None:
            raise CompareError(f"the upload of {path} was not completed")
        return upload.file.id

    def _call(self, verb: str, path: str, **arguments: Any) -> Comparison:
        answer = self.http.request(verb, path, **arguments)
        body = answer.json() if "json" in answer.headers.get("content-type", "") else {}
        if answer.is_error:
            raise CompareError(body.get("detail") or f"{path} answers with status {answer.status_code}")
        return dict(body)

    def _follow(self, comparison: Comparison) -> Comparison:
        """Show a bar for each method until the comparison has ended."""
        columns = (TextColumn("{task.description:34}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
        with Progress(*columns, console=self.console) as progress:
            bars = {method["name"]: progress.add_task(method["name"], total=None) for method in comparison["methods"]}
            failures = 0
            while True:
                for name, bar in bars.items():
                    jobs = [job for job in comparison["jobs"] if job["method"] == name]
                    done, total = (sum(job[field] for job in jobs) for field in ("step", "total_steps"))
                    over = sum(job["status"] in _FINAL for job in jobs)
                    shown = f"{name}: {over} of {len(jobs)} jobs"
                    progress.update(bar, completed=done, total=total, description=shown)
                if comparison["status"] in _FINAL:
                    return comparison
                time.sleep(_POLL_S)
                try:
                    comparison, failures = self._call("GET", f"/v1/comparisons/{comparison['id']}"), 0
                except (httpx2.TransportError, CompareError):  # a service that is started again
                    failures += 1
                    if failures > _RETRIES:
                        raise

    def _download(self, comparison: Comparison, folder: Path) -> dict[str, Path]:
        """The files of the report by name, their sha256 checked."""
        folder.mkdir(parents=True, exist_ok=True)
        found = {}
        for report in comparison["reports"]:
            answer = self.http.get(report["url"], follow_redirects=True).raise_for_status()
            digest = hashlib.sha256(answer.content).hexdigest()
            if digest != report["sha256"]:
                raise CompareError(f"{report['filename']} has sha256 {digest}, not {report['sha256']}")
            path = folder / Path(report["filename"]).name
            path.write_bytes(answer.content)
            found[report["filename"]] = path
        return found

    def _summary(self, comparison: Comparison, files: dict[str, Path]) -> dict[str, Any]:
        report = json.loads(files["comparison.json"].read_bytes())
        fields = ("first", "second", "n", "difference", "interval", "p_t_holm", "p_sign_flip_holm")
        figures = {
            key: {
                "methods": {
                    name: {field: found[field] for field in ("mean", "sd", "n")}
                    for name, found in figure["methods"].items()
                },
                "pairs": [{field: pair[field] for field in fields} for pair in figure["pairs"]],
            }
            for key, figure in report["figures"].items()
        }
        steps = {name: [each["step"] for each in by_seed.values()] for name, by_seed in report["convergence"].items()}
        return {
            "ok": True,
            "id": comparison["id"],
            "missing": len(report["missing"]),
            "figures": figures,
            **({"convergence_steps": steps} if steps else {}),
            "report": str(files["comparison.html"]),
        }


def failures(jobs: list[dict[str, Any]]) -> list[str]:
    """What went wrong, each message once: bad data fails every job with the same words."""
    failed: dict[str, list[str]] = {}
    for job in jobs:
        if job["error"]:
            failed.setdefault(job["error"]["message"], []).append(f"{job['method']}, seed {job['seed']}")
    everywhere = 1 < len(jobs) == len(next(iter(failed.values()), []))
    return [
        f"{f'all {len(jobs)} jobs' if everywhere else '; '.join(names)}: {message}" for message, names in failed.items()
    ]


@contextmanager
def _service(url: str | None, key: str | None, folder: Path, console: Console) -> Iterator[Service]:
    """The service at `url`; else the one that uses the data folder, started where none runs."""
    if url is not None:
        if not key:
            raise CompareError("--url needs an API key: --key, or DIFFTUNE_API_KEY in the environment")
        with _connected(url, key, console) as service:
            yield service
        return
    running = _running(folder)
    if running is not None:
        console.print(f"using the service at {running}", highlight=False)
        with _connected(running, (folder / "api-key").read_text(encoding="utf-8").strip(), console) as service:
            yield service
        return
    console.print(f"starting a service over {folder}", markup=False, highlight=False)
    with DemoStack(folder) as stack, _connected(stack.url, stack.key, console) as service:
        yield service


@contextmanager
def _connected(url: str, key: str, console: Console) -> Iterator[Service]:
    headers = {"Authorization": f"Bearer {key}"}
    with (
        openai.OpenAI(base_url=f"{url.rstrip('/')}/v1", api_key=key) as client,
        httpx2.Client(base_url=url, headers=headers, timeout=_TIMEOUT_S) as http,
    ):
        yield Service(client, http, console)


def _running(folder: Path) -> str | None:
    """Address of the stack that uses the data folder; None, and no state file, where none answers."""
    state = folder / STATE_FILE
    try:
        url = str(json.loads(state.read_text(encoding="utf-8"))["url"])
        httpx2.get(f"{url}/readyz", timeout=5.0, trust_env=False).raise_for_status()
    except (OSError, ValueError, KeyError, httpx2.HTTPError):
        state.unlink(missing_ok=True)  # of a stack that was killed: a new one's must not be taken for it
        return None
    return url
