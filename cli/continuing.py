"""`difftune continue`: a new job that begins where another has ended."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

from cli.printing import tell
from cli.results import Which, checkpoint_of
from cli.service import AsJson, DataDir, Key, Url, service
from cli.settings import failed
from cli.submit import Epochs, MaxSteps, Name, Set, Watch, exit_by, set_field, watched
from cli.transfer import told
from difftune.bodies import choose_method, continued_config
from difftune.jobs import JOBS, path_of
from difftune.service import Service


def continue_job(
    which: Which,
    *,
    max_steps: MaxSteps = None,
    epochs: Epochs = None,
    name: Name = None,
    fields: Set = None,
    watch: Watch = False,
    url: Url = None,
    key: Key = None,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Submit a job that goes on from another's result, with its images and settings but for those stated.

    The optimizer begins anew; to go on with a paused job as if it had not stopped, `resume` it.
    """
    if max_steps is not None and epochs is not None:
        raise failed("--max-steps or --epochs, not both")
    with service(url, key, data_dir) as asked:
        body = _config(asked, which) | ({} if name is None else {"suffix": name})
        choose_method(body, None, {"max_steps": max_steps, "epochs": epochs})
        for one in fields or []:
            set_field(body, one)
        job = asked.ask(JOBS, method="POST", json=body)
        if watch:
            job = watched(asked, job["id"], told())
    tell(job, job["id"], as_json=as_json)
    exit_by(job)


def _config(asked: Service, which: str) -> dict[str, Any]:
    checkpoint = checkpoint_of(asked, which)
    job = asked.ask(f"/v1/checkpoints/{quote(checkpoint, safe='')}")["fine_tuning_job_id"]
    return continued_config(asked.ask(path_of(job)), checkpoint)
