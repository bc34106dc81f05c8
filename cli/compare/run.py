"""Upload, submit, follow, download."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from rich.console import Console

from api.subjects.states import FINAL
from cli.demo.stack import DemoStack
from cli.settings import read_settings
from cli.transfer import bar, bars, told
from difftune.packing import archive_of
from difftune.places import STATE_FILE, key_of, local_service, named
from difftune.service import Service, ServiceError

_POLL_S = 0.5
_RETRIES = 60  # polls in a row without an answer
_INTERRUPTED = 130

Report = dict[str, Any]


def run_comparison(
    request: dict[str, Any],
    files: dict[str, Path],
    folder: Path,
    *,
    url: str | None,
    key: str | None,
    data_dir: Path | None,
) -> int:
    """Run the comparison, put the report into `folder`, and print a summary as JSON last. Returns the exit status."""
    console = told()
    begin, own_folder = time.monotonic(), read_settings(data_dir).data_dir.expanduser().resolve()
    try:
        for path in files.values():
            if not path.exists():
                raise ServiceError(f"there is no file {path}")  # noqa: TRY301  # all refusals are told in one place
        with _service(url, key, own_folder, console) as service:
            summary = Comparison(service, console).run(request, files, folder)
    except (ServiceError, OSError, RuntimeError) as error:
        console.print(f"difftune: {error}", style="red", markup=False, highlight=False)
        print(json.dumps({"ok": False, "error": str(error)}))  # noqa: T201  # the command's output
        return 1
    except KeyboardInterrupt:
        console.print("interrupted; a service that runs on finishes what was submitted")
        return _INTERRUPTED
    print(json.dumps({**summary, "seconds": round(time.monotonic() - begin, 1)}))  # noqa: T201  # the command's output
    return 0 if summary["ok"] else 1


@dataclass(frozen=True)
class Comparison:
    """A comparison on a service, shown on a console."""

    service: Service
    console: Console

    def run(self, request: dict[str, Any], files: dict[str, Path], folder: Path) -> dict[str, Any]:
        """Upload, submit, follow, download; return the summary of the last line.

        Raises:
            ServiceError: an archive is invalid (nothing was submitted then), or the comparison did not succeed.
        """
        ids = {field: self._uploaded(path) for field, path in files.items()}
        for dataset in ids.values():
            self.service.validated(dataset)
        made = self.service.ask("/v1/comparisons", method="POST", json={**request, **ids})
        methods = ", ".join(method["name"] for method in made["methods"])
        self.console.print(f"submitted {made['id']}: {methods}, seeds {made['seeds']}", highlight=False)
        ended = self._follow(made)
        for said in failures(ended["jobs"]):
            self.console.print(said, style="red", markup=False, highlight=False)
        if ended["status"] != "succeeded":
            message = (ended["error"] or {}).get("message", "")
            raise ServiceError(f"{ended['id']} is {ended['status']}. {message}".strip())
        return _summary(ended, self._download(ended, folder))

    def _uploaded(self, path: Path) -> str:
        with (
            archive_of(path, partial(bar, self.console)) as archive,
            bar(self.console, f"uploading {archive.name}") as heard,
        ):
            return self.service.upload(archive, heard)

    def _follow(self, comparison: Report) -> Report:
        """Show a bar for each method until the comparison has ended."""
        with bars(self.console) as progress:
            tasks = {method["name"]: progress.add_task(method["name"], total=None) for method in comparison["methods"]}
            failures = 0
            while True:
                for name, task in tasks.items():
                    jobs = [job for job in comparison["jobs"] if job["method"] == name]
                    done, total = (sum(job[field] for job in jobs) for field in ("step", "total_steps"))
                    over = sum(job["status"] in FINAL for job in jobs)
                    shown = f"{name}: {over} of {len(jobs)} jobs"
                    progress.update(task, completed=done, total=total, description=shown)
                if comparison["status"] in FINAL:
                    return comparison
                time.sleep(_POLL_S)
                try:
                    comparison, failures = self.service.ask(f"/v1/comparisons/{comparison['id']}"), 0
                except ServiceError:  # a service that is started again
                    failures += 1
                    if failures > _RETRIES:
                        raise

    def _download(self, comparison: Report, folder: Path) -> dict[str, Path]:
        """The files of the report by name."""
        folder.mkdir(parents=True, exist_ok=True)
        found = {report["filename"]: folder / Path(report["filename"]).name for report in comparison["reports"]}
        for report in comparison["reports"]:
            self.service.download(report["url"], found[report["filename"]], report["sha256"])
        return found


def _summary(comparison: Report, files: dict[str, Path]) -> dict[str, Any]:
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
    """Return what went wrong, each message once: bad data fails every job with the same words."""
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
        address, own = named(url)
        if not (secret := key_of(own, key)):
            raise ServiceError("--url needs an API key: --key, or DIFFTUNE_API_KEY in the environment")
        with Service(address, secret) as service:
            yield service
    elif running := local_service(folder):
        console.print(f"using the service at {running[0]}", highlight=False)
        with Service(running[0], key or running[1]) as service:
            yield service
    else:
        console.print(f"starting a service over {folder}", markup=False, highlight=False)
        (folder / STATE_FILE).unlink(
            missing_ok=True
        )  # of a stack that was killed: it must not be taken for the new one
        with DemoStack(folder) as stack, stack.connected() as service:
            yield service
