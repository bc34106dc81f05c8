"""Is a resume exact? `python -m benchmarks.resume` cuts real jobs at many points and compares the final weights.

One job runs undisturbed. Others are cut, several times each, by every kind of stop: the worker's SIGTERM, kill -9 of
the trainer, kill -9 of the worker, pause and resume, preemption. After each cut of a worker the job goes on at another
node with a cache of its own. The sha256 over raw weights, average and optimizer of the last checkpoint must be equal
for all. The negative control, a trainer whose data begin anew after a resume, must differ. The last line is one JSON
object.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from api.ids import new_id
from api.jobs.states import FINAL
from api.work import service as work
from api.work.states import Slot, WorkKind
from benchmarks.nodes import TENANT, Cluster, images

STEPS = 40
CONFIG: dict[str, Any] = {
    "method": {
        "type": "diff_tuning",
        "diff_tuning": {
            "hyperparameters": {
                "max_steps": STEPS,
                "batch_size": 16,
                "checkpoint_every_steps": 7,
                "log_every_steps": 1,
                "retention_set": {"num_images": 8, "num_inference_steps": 2},
            }
        },
    },
    "evaluation": {"num_images": 4, "num_inference_steps": 1, "every_steps": None, "holdout_fraction": 0.25},
}
SETTINGS: dict[str, Any] = {
    "lease_s": 5.0,
    "heartbeat_s": 0.3,
    "poll_s": 0.2,
    "sweep_s": 0.5,
    "retry_delay_s": 0.1,
    "preempt_after_s": 0.0,
    "max_attempts": 50,
    "cpu_slots": 0,
}
FORGETFUL = [sys.executable, "-m", "benchmarks.forgetful_trainer"]
_WEIGHTS = ("model.safetensors", "resume.safetensors")


class Cuts:
    """One job, cut again and again. Its worker runs at one node at a time."""

    def __init__(self, cluster: Cluster, job_id: str) -> None:
        """The job may wait or run."""
        self.cluster = cluster
        self.job_id = job_id
        self._nodes = ["a", "b"]
        self._kinds: dict[str, Callable[[], None]] = {
            "sigterm": self._sigterm,
            "kill_trainer": self._kill_trainer,
            "kill_worker": self._kill_worker,
            "pause": self._pause,
            "preempt": self._preempt,
        }

    @classmethod
    def kinds(cls) -> list[str]:
        """Names of all kinds of stop."""
        return ["sigterm", "kill_trainer", "kill_worker", "pause", "preempt"]

    def run(self, plan: list[tuple[str, int]]) -> list[tuple[str, int]]:
        """Cut as planned, each at its step or soon after, and wait for the end; the cuts that met a running trainer."""
        done = []
        for kind, step in plan:
            self.cluster.worker(self._nodes[0])
            seen = self.cluster.wait(lambda step=step: self._step_beyond(step))
            if self.cluster.job(self.job_id).status != "running" or seen >= STEPS:
                break
            before = len(self.cluster.attempts(self.job_id))
            self._kinds[kind]()
            self.cluster.worker(self._nodes[0])
            self.cluster.wait(lambda before=before: len(self.cluster.attempts(self.job_id)) > before or self._ended())
            ended = self.cluster.attempts(self.job_id)[before - 1].reason
            if ended != "succeeded":
                done.append((kind, seen))
        self.cluster.worker(self._nodes[0])
        self.cluster.wait(self._ended)
        self.cluster.end(self._nodes[0])  # the next job's worker, at the first node, must be the only one
        return done

    def _step_beyond(self, step: int) -> int:
        """The running attempt's step once it is `step` or more, or the job has ended; else 0."""
        job = self.cluster.job(self.job_id)
        if job.status in FINAL:
            return STEPS
        trains = job.status == "running" and job.phase == "training" and (job.phase_done or 0) > 0
        return job.step if trains and job.step >= step else 0

    def _ended(self) -> bool:
        return self.cluster.job(self.job_id).status in FINAL

    def _elsewhere(self) -> None:
        self._nodes.reverse()

    def _sigterm(self) -> None:
        self.cluster.end(self._nodes[0], signal.SIGTERM)
        self._elsewhere()

    def _kill_worker(self) -> None:
        self.cluster.end(self._nodes[0], signal.SIGKILL)
        self._elsewhere()

    def _kill_trainer(self) -> None:
        noted = self.cluster.folder / self._nodes[0] / "work" / self.job_id / "child.json"
        os.kill(json.loads(noted.read_text())["pid"], signal.SIGKILL)

    def _pause(self) -> None:
        self.cluster.pause(self.job_id)
        self.cluster.wait(lambda: self.cluster.job(self.job_id).status == "paused" or self._ended())
        if not self._ended():
            self.cluster.end(self._nodes[0])
            self._elsewhere()
            self.cluster.resume(self.job_id)

    def _preempt(self) -> None:
        """Something more important that nobody wants any more when its turn has come."""
        with self.cluster.database.write() as session:
            work.enqueue(session, WorkKind.TRAIN, new_id("ftjob"), tenant_id=TENANT, slot=Slot.GPU, priority=10)
        self.cluster.sweep.preempt()


def planned(count: int, per_job: int, seed: int) -> list[list[tuple[str, int]]]:
    """Cuts by job: all kinds in turn, at steps drawn at random, later ones later."""
    rng, kinds = random.Random(seed), Cuts.kinds()  # noqa: S311  # no secret
    jobs = []
    for first in range(0, count, per_job):
        numbers = range(first, min(first + per_job, count))
        steps = sorted(rng.sample(range(1, STEPS - 6), len(numbers)))
        jobs.append([(kinds[number % len(kinds)], step) for number, step in zip(numbers, steps, strict=True)])
    return jobs


def run(folder: Path, plans: list[list[tuple[str, int]]], trainer: list[str] | None = None) -> dict[str, Any]:
    """Digests and exactness of one job for each plan."""
    cluster = Cluster(folder, **SETTINGS, **({"trainer_command": trainer} if trainer else {}))
    try:
        dataset = cluster.dataset(images())
        digests, cuts, inexact = [], [], 0
        for plan in plans:
            cutting = Cuts(cluster, cluster.submit(dataset, CONFIG))
            cuts += cutting.run(plan)
            job = cluster.job(cutting.job_id)
            if job.status != "succeeded":
                raise RuntimeError(f"{job.id} is {job.status}: {job.error_message}")
            digests.append(cluster.digest(job.id, _WEIGHTS))
            inexact += sum(bool(attempt.changed) for attempt in cluster.attempts(job.id))
            sys.stderr.write(f"{digests[-1][:12]}  {plan}\n")
    finally:
        cluster.close()
    return {"digests": digests, "cuts": cuts, "inexact": inexact}


def run_side_by_side(folder: Path, plans: list[list[tuple[str, int]]]) -> dict[str, Any]:
    """As `run`, in two clusters at once: a job keeps one core busy. The first digest is that of the first plan."""
    shares = [(folder / str(number), plans[number::2]) for number in range(2)]
    with get_context("spawn").Pool(len(shares), initializer=_end_orderly) as pool:
        first, second = pool.starmap(run, shares)
    return {name: first[name] + second[name] for name in first}


def _end_orderly() -> None:
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # nothing is left running


def measure(folder: Path, cut_points: int, per_job: int, seed: int) -> dict[str, Any]:
    """The whole benchmark."""
    began = time.monotonic()
    plans = planned(cut_points, per_job, seed)
    found = run_side_by_side(folder / "exact", [[], *plans])
    while len(found["cuts"]) < cut_points:  # a cut that came too late, when the last step was done, does not count
        seed += 1
        more = run(folder / f"more-{seed}", planned(cut_points - len(found["cuts"]), per_job, seed))
        if not more["cuts"]:
            raise RuntimeError("no cut met a running trainer")
        found = {name: found[name] + more[name] for name in found}
    control = run(folder / "control", [[("kill_trainer", STEPS // 2)]], FORGETFUL)
    reference = found["digests"][0]
    result = {
        "cut_points": len(found["cuts"]),
        "by_kind": dict(Counter(kind for kind, _ in found["cuts"])),
        "distinct_steps": len({step for _, step in found["cuts"]}),
        "jobs": len(found["digests"]),
        "sha256_equal": sum(digest == reference for digest in found["digests"]),
        "inexact_attempts": found["inexact"],
        "negative_control_differs": control["digests"][0] != reference,
        "seconds": round(time.monotonic() - began, 1),
    }
    result["ok"] = (
        result["sha256_equal"] == result["jobs"] and not found["inexact"] and result["negative_control_differs"]
    )
    return result


def main() -> int:
    """Run it; the exit status is 0 if all digests are equal and the control's is not."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cut-points", type=int, default=50)
    parser.add_argument("--per-job", type=int, default=5, help="cuts of one job")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--folder", type=Path, help="kept; default: a temporary one")
    args = parser.parse_args()
    _end_orderly()
    with tempfile.TemporaryDirectory() as temporary:
        result = measure(args.folder or Path(temporary), args.cut_points, args.per_job, args.seed)
    print(json.dumps(result))
    return 0 if result["ok"] else 1


if __name__ == "__main__":
    sys.exit(main())
