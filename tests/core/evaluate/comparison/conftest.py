from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from difftune_core.evaluate.grids import image_grid

RECIPE = {
    "feature_extractor": "tiny-features",
    "feature_extractor_digest": "c0ffee" * 10,
    "num_generated": 100,
    "num_real": 200,
    "reference_set_digest": "beef" * 16,
    "sampling": {"sampler": "ddim", "num_inference_steps": 10, "guidance_scale": 1.5, "guidance": "cfg", "seed": 0},
    "weights": "ema",
}


def _evaluation(step: int, fid: float, images: int) -> dict[str, Any]:
    by_t = [fid / (100 * i) for i in range(1, 11)]
    forgetting = {"null_fid": 2 * fid, "retention_loss": by_t[0], "retention_loss_by_t": by_t}
    return {"step": step, "fid": fid, "fid_se": 0.1, "kid": fid / 10, "kid_se": 0.01, "num_fake": 100,
            "num_real": 200, "target_images": images, "forgetting": forgetting, "l2_from_base": fid}  # fmt: skip


def make_report(fids: list[float], *, share: float = 1.0, seed: int = 0, method: str = "supervised") -> dict[str, Any]:
    """A run of 10 steps of 8 images an evaluation; `share` of the slots are target images."""
    steps = [10 * (i + 1) for i in range(len(fids))]
    base = {key: value for key, value in _evaluation(0, 40.0, 0).items() if key != "l2_from_base"}
    return {
        "job": {"seed": seed, "method": {"type": method, method: {"hyperparameters": {
            "max_steps": steps[-1], "batch_size": 8, "adapter": {"type": "full"},
            **({"tau": 1.0} if method == "diff_tuning" else {})}}}},
        "model": {"id": "tiny-dit", "digest": "d1", "trainable_parameters": 1000},
        "dataset": {"class_names": ["0", "1"], "num_train": 20, "num_held_out": 200, "digest": "d2"},
        "curves": {"target_loss": [[step, 1 / step] for step in steps]},
        "evaluations": [_evaluation(s, f, int(8 * s * share)) for s, f in zip(steps, fids, strict=True)],
        "references": {"base_model": base, "real_vs_real": {"fid": 2.0, "kid": 0.0}},
        "recipe": copy.deepcopy(RECIPE),
        "notes": [],
    }  # fmt: skip


def write_run(data: Path, method: str, seed: int, report: dict[str, Any], *, samples: bool = True) -> Path:
    folder = data / method / str(seed)
    folder.mkdir(parents=True)
    (folder / "report.json").write_text(json.dumps(report), encoding="utf-8")
    if samples:
        pixels = np.random.default_rng(seed).integers(0, 256, (8, 8, 8, 3), dtype=np.uint8)
        image_grid(pixels, 4, 2).save(folder / "samples.png")
    return folder


@pytest.fixture
def add_run(tmp_path: Path) -> Callable[..., Path]:
    """Write a run into `tmp_path / runs`."""

    def add(method: str, seed: int, fids: list[float], *, samples: bool = True, **fields: Any) -> Path:
        kind = "diff_tuning" if "diff" in method else "supervised"
        share = fields.pop("share", 1.0)
        report = make_report(fids, share=share, seed=seed, method=kind)
        for path, value in fields.items():
            *outer, last = path.split("__")
            here = report
            for name in outer:
                here = here[name]
            here[last] = value
        return write_run(tmp_path / "runs", method, seed, report, samples=samples)

    return add
