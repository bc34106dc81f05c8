"""`python -m benchmarks.full_size dit|controlnet`: one job of published size, killed on its way, to its exports.

Writes models with random weights in their publishers' formats, imports them, trains a few steps through an embedded
service, kills the trainer once after its first checkpoint, and opens what comes out of it. The last line is one JSON
object: peak memory and seconds by phase, sizes of what was written, and whether the job kept within the memory that it
is allowed. Needs about 45 GB of disk and 20 GB of memory.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import signal
import subprocess
import sys
import tempfile
import time
import zipfile
from pathlib import Path
from typing import Any

from benchmarks.full_size import data, weights
from benchmarks.full_size.memory import Phases, trainers
from cli.demo.stack import DemoStack
from difftune.service import Service

_LIMITS_GB = {"dit": {"full": 15.0, "difffit": 8.0, "lora": 8.0}, "controlnet": {"full": 14.0}}
_FINAL = {"succeeded", "failed", "cancelled"}
_LOOK_S = 0.25
_STEPS = {"dit": 4, "controlnet": 2}
_MODEL = "full-size"


def _import(data_dir: Path, source: Path, id_: str, **options: Any) -> None:
    given = {"id": id_, "data-dir": data_dir, **options}
    flags = [str(part) for name, value in given.items() for part in (f"--{name}", value)]
    subprocess.run([sys.executable, "-m", "cli", "models", "import", str(source), *flags], check=True)


def _models(kind: str, scratch: Path, data_dir: Path) -> None:
    """Write the base model and what judges it, import both, and remove what they came from."""
    inception = weights.write_inception(scratch / "inception.pth")
    _import(data_dir, inception, "inception", kind="inception", licence="none")
    judged = {"feature-extractor": "inception", "licence": "none"}
    if kind == "dit":
        vae = weights.write_autoencoder(scratch / "vae")
        source = weights.write_dit(scratch / "DiT-XL-2.pt")
        _import(data_dir, source, _MODEL, vae=vae, **judged)
        source.unlink()
    else:
        source = weights.write_stable_diffusion(scratch / "sd")
        _import(data_dir, source, _MODEL, kind="stable-diffusion", **judged)


def _body(kind: str, adapter: str, files: dict[str, str]) -> dict[str, Any]:
    steps = _STEPS[kind]
    images = 4 if kind == "dit" else 2
    hyperparameters: dict[str, Any] = {
        "max_steps": steps,
        "batch_size": images,
        "checkpoint_every_steps": steps // 2,
        "log_every_steps": 1,
        "adapter": {"type": adapter},
        "retention_set": {"num_images": images, "num_inference_steps": 2},
    }
    evaluation = {"num_images": images, "num_inference_steps": 2, "every_steps": None}
    control = {} if kind == "dit" else {"control": {"condition": "edge"}}
    return {
        "model": _MODEL,
        **files,
        **control,
        "method": {"type": "diff_tuning", "diff_tuning": {"hyperparameters": hyperparameters}},
        "evaluation": evaluation,
        "checkpoints": {"keep_last": 1},
        "resources": {"micro_batch": 1},
    }


def _followed(service: Service, job_id: str, kill_at: int) -> tuple[dict[str, Any], Phases]:
    """Follow the job to its end and kill its trainer once, after the checkpoint of step `kill_at`."""
    phases, killed, now = Phases(), False, time.monotonic()
    while (job := service.ask(f"/v1/fine_tuning/jobs/{job_id}"))["status"] not in _FINAL:
        phase = job["status_details"].get("phase") or job["status"]
        for _ in range(4):
            time.sleep(_LOOK_S)
            before, now = now, time.monotonic()
            phases.sample(phase, now - before)
        if not killed and service.ask(f"/v1/fine_tuning/jobs/{job_id}/checkpoints")["data"]:
            for pid in trainers():
                os.kill(pid, signal.SIGKILL)
            killed = True
    assert killed or kill_at == 0, "the job ended before it could be killed"
    return job, phases


def _artifacts(service: Service, job: dict[str, Any], folder: Path) -> dict[str, int]:
    """Download the result in every format and open each; sizes by format."""
    sizes, checkpoint = {}, job["fine_tuned_model"]
    for name in ("safetensors", "diffusers", "original"):
        target = folder / f"result-{name}"
        try:
            service.download(f"/v1/checkpoints/{checkpoint}/download?format={name}", target)
        except Exception as error:  # noqa: BLE001  # a family has not every format; the line says which
            print(f"{name}: {error}", file=sys.stderr)
            continue
        sizes[name] = target.stat().st_size
    return sizes


def _opened(archive: Path, folder: Path) -> list[int]:
    """Sample one image from the diffusers export; its shape."""
    from diffusers.pipelines.dit.pipeline_dit import DiTPipeline

    with zipfile.ZipFile(archive) as packed:
        packed.extractall(folder)  # made by the service
    loader: Any = DiTPipeline
    pipeline = loader.from_pretrained(folder, local_files_only=True)
    return list(pipeline(class_labels=[0], num_inference_steps=2, output_type="np").images.shape)


def main() -> int:
    """Run the measurement from the command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.full_size", description=__doc__)
    parser.add_argument("kind", choices=list(_LIMITS_GB))
    parser.add_argument("--adapter", default="full", choices=["full", "difffit", "lora"])
    parser.add_argument("--folder", type=Path, help="for everything that is written; default: a temporary one")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.folder) as temporary:
        summary = _measured(options.kind, options.adapter, Path(temporary))
    print(json.dumps(summary))
    return 0 if summary["ok"] else 1


def _measured(kind: str, adapter: str, folder: Path) -> dict[str, Any]:
    began, data_dir = time.monotonic(), folder / "data"
    _models(kind, folder, data_dir)
    prepared = time.monotonic() - began
    write = data.write_classes if kind == "dit" else data.write_pairs
    size = 256 if kind == "dit" else 512
    with DemoStack(data_dir) as stack, stack.connected() as service:
        training = service.upload(write(folder / "images.zip", size=size))
        service.validated(training)
        body = _body(kind, adapter, {"training_file": training})
        planned = service.ask("/v1/fine_tuning/jobs?dry_run=true", method="POST", json=body)["host_memory"]
        job_id = service.ask("/v1/fine_tuning/jobs", method="POST", json=body)["id"]
        job, phases = _followed(service, job_id, kill_at=_STEPS[kind] // 2)
        sizes = _artifacts(service, job, folder) if job["status"] == "succeeded" else {}
    image = _opened(folder / "result-diffusers", folder / "opened") if kind == "dit" and "diffusers" in sizes else None
    peak, predicted = max(phases.peak_bytes.values()) / 1e9, planned["peak_bytes"] / 1e9
    limit = _LIMITS_GB[kind].get(adapter)
    return {
        "kind": kind,
        "adapter": adapter,
        "status": job["status"],
        "error": job.get("error"),
        "recoveries": job.get("recoveries"),
        "seconds": round(time.monotonic() - began),
        "seconds_to_import": round(prepared),
        "phases": phases.summary(),
        "peak_gb": round(peak, 2),
        "predicted_gb": round(predicted, 2),
        "predicted": {phase: round(held / 1e9, 2) for phase, held in planned["phases"].items()},
        "peak_to_predicted": round(peak / predicted, 3),
        "limit_gb": limit,
        "bytes": sizes,
        "opened_image": image,
        "processor": platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "ok": job["status"] == "succeeded" and limit is not None and peak <= limit,
    }


if __name__ == "__main__":
    sys.exit(main())
