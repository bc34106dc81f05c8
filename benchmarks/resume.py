"""Whether a resume is exact: `python -m benchmarks.resume` cuts real jobs at many points and compares final weights.

One job runs undisturbed. Others are cut, several times each, by every kind of stop: the worker's SIGTERM, kill -9 of
the trainer, kill -9 of the worker, pause and resume, preemption; between two steps, and while an evaluation, the
references or the export's check draw images. After each cut of a worker the job goes on at another node with a cache
of its own. The sha256 over raw weights, average and optimizer of the last checkpoint must be equal for all, and no step
may be lost by a stop that leaves time to save. The negative control, a trainer whose data begin anew after a resume,
must differ. The last line is one JSON object.
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
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any, NamedTuple

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
    "evaluation": {"num_inference_steps": 20, "every_steps": 10, "holdout_fraction": 0.25},
}
FEWEST_IMAGES = 24  # of an evaluation: each takes some seconds, so that a cut meets it
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
ORDERLY = frozenset({"sigterm", "pause", "preempt"})
_WEIGHTS = ("model.safetensors", "resume.safetensors")
_PHASES = ("training", "evaluating", "references", "exporting", "ended")


class Moment(NamedTuple):
    """When a job is cut: `training` at a step or soon after, the others while it is judged at that step."""

    step: int
    phase: str

    @property
    def order(self) -> tuple[int, int]:
        """Key that sorts a job's moments by time."""
        return self.step, _PHASES.index(self.phase)


class Cut(NamedTuple):
    """A cut that met a running trainer."""

    kind: str
    moment: Moment
    lost: int
    """Steps that the next attempt takes again."""


Plan = list[tuple[str, Moment]]


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

    def run(self, plan: Plan) -> list[Cut]:
        """Cut as planned, as far as the moments are met, and wait for the end; the cuts that met a running trainer."""
        done = []
        for kind, moment in plan:
            self.cluster.worker(self._nodes[0])
            seen = self.cluster.wait(partial(self._seen, moment))
            if seen.phase != moment.phase or (seen.step != moment.step and moment.phase != "training"):
                continue
            before = len(self.cluster.attempts(self.job_id))
            self._kinds[kind]()
            self.cluster.worker(self._nodes[0])
            self.cluster.wait(partial(self._is_over, before))
            attempts = self.cluster.attempts(self.job_id)
            if attempts[before - 1].reason != "succeeded":
                done.append(Cut(kind, seen, max(0, seen.step - (attempts[before].start_step or 0))))
        self.cluster.worker(self._nodes[0])
        self.cluster.wait(self._ended)
        self.cluster.end(self._nodes[0])  # the next job's worker, at the first node, must be the only one
        return done

    def _seen(self, moment: Moment) -> Moment | None:
        """Return where the trainer is once `moment` has come, or was missed; None while it may yet come."""
        now = self._now()
        if moment.phase == "training":
            come = now is not None and (now.step >= STEPS or (now.phase == "training" and now.step >= moment.step))
        else:
            come = now is not None and now.order >= moment.order
        return now if come else None

    def _now(self) -> Moment | None:
        """Return where the trainer is, or that the job has ended; None where no trainer gets on."""
        job = self.cluster.job(self.job_id)
        if job.status in FINAL:
            return Moment(STEPS, "ended")
        done, total, phase = job.phase_done or 0, job.phase_total or 0, job.phase or ""
        if job.status != "running" or done == 0:
            return None
        if phase == "evaluating" and self.cluster.is_judged(self.job_id, job.step):
            phase = "references"
        draws = phase in _PHASES and (phase == "training" or done < total)
        return Moment(job.step, phase) if draws else None

    def _is_over(self, before: int) -> bool:
        """Return whether an attempt came after so many, or none will."""
        return len(self.cluster.attempts(self.job_id)) > before or self._ended()

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
        """Queue something more important that nobody wants any more when its turn has come."""
        with self.cluster.database.write() as session:
            work.enqueue(session, WorkKind.TRAIN, new_id("ftjob"), tenant_id=TENANT, slot=Slot.GPU, priority=10)
        self.cluster.sweep.preempt()


def planned(count: int, per_job: int, seed: int) -> list[Plan]:
    """Cuts by job: all kinds in turn, half of them while the job is judged, the others at steps drawn at random."""
    rng, kinds = random.Random(seed), Cuts.kinds()  # noqa: S311  # no secret
    jobs = []
    for number, first in enumerate(range(0, count, per_job)):
        some = min(per_job, count - first)
        at_end = [Moment(STEPS, "evaluating"), Moment(STEPS, "references"), Moment(STEPS, "exporting")]
        judging = [Moment(rng.choice((10, 20, 30)), "evaluating"), *(at_end[(number + i) % 3] for i in range(2))]
        chosen = judging[: max(1, some * 3 // 5)]
        chosen += [Moment(step, "training") for step in rng.sample(range(1, STEPS - 6), some - len(chosen))]
        ordered = sorted(chosen, key=lambda moment: moment.order)
        jobs.append([(kinds[(number + i) % len(kinds)], moment) for i, moment in enumerate(ordered)])
    return jobs


def run(
    folder: Path, plans: list[Plan], trainer: list[str] | None = None, evaluation: dict[str, Any] | None = None
) -> dict[str, Any]:
    """Digests and exactness of one job for each plan; `evaluation` changes how it is judged, not its weights."""
    cluster = Cluster(folder, **SETTINGS, **({"trainer_command": trainer} if trainer else {}))
    try:
        dataset = cluster.dataset(images())
        digests, cuts, inexact = [], [], 0
        for number, plan in enumerate(plans):
            # Of no other job: images of the base model that an earlier one has drawn would be in the cache.
            images_of_its_own = {"num_images": FEWEST_IMAGES + number}
            config = {**CONFIG, "evaluation": CONFIG["evaluation"] | images_of_its_own | (evaluation or {})}
            cutting = Cuts(cluster, cluster.submit(dataset, config))
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


def run_side_by_side(folder: Path, plans: list[Plan]) -> dict[str, Any]:
    """Do as `run` in two clusters at once: a job keeps one core busy. The first digest is that of the first plan."""
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
    control = run(folder / "control", [[("kill_trainer", Moment(STEPS // 2, "training"))]], FORGETFUL)
    reference = found["digests"][0]
    result = {
        "cut_points": len(found["cuts"]),
        "by_kind": dict(Counter(cut.kind for cut in found["cuts"])),
        "by_phase": dict(Counter(cut.moment.phase for cut in found["cuts"])),
        "distinct_steps": len({cut.moment.step for cut in found["cuts"]}),
        "steps_lost_by_orderly_stops": sum(cut.lost for cut in found["cuts"] if cut.kind in ORDERLY),
        "most_steps_lost_by_a_kill": max(cut.lost for cut in found["cuts"] if cut.kind not in ORDERLY),
        "jobs": len(found["digests"]),
        "sha256_equal": sum(digest == reference for digest in found["digests"]),
        "inexact_attempts": found["inexact"],
        "negative_control_differs": control["digests"][0] != reference,
        "seconds": round(time.monotonic() - began, 1),
    }
    exact = result["sha256_equal"] == result["jobs"] and not found["inexact"]
    result["ok"] = exact and not result["steps_lost_by_orderly_stops"] and result["negative_control_differs"]
    return result


def main() -> int:
    """Run the benchmark; the exit status is 0 if all digests are equal and the control's is not."""
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
