"""`difftune compare` against a running service, with the real tiny model."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.e2e.conftest import EVALUATION, QUICK, Service, image_zip


@pytest.mark.long
def test_compare_writes_one_report_of_all_runs(service: Service, tmp_path: Path) -> None:
    archive, config = tmp_path / "images.zip", tmp_path / "comparison.json"
    archive.write_bytes(image_zip())
    quick = {**QUICK, "max_steps": 8, "checkpoint_every_steps": 8}
    methods = [
        {
            "name": kind,
            "method": {"type": kind, kind: {"hyperparameters": {k: v for k, v in quick.items() if k in own}}},
        }
        for kind, own in (("supervised", quick.keys() - {"retention_set"}), ("diff_tuning", quick.keys()))
    ]
    evaluation = {**EVALUATION, "every_steps": 4, "other_guidance": ["none"]}
    config.write_text(json.dumps({"methods": methods, "seeds": [0, 1], "evaluation": evaluation}))
    folder = tmp_path / "out"
    done = subprocess.run(
        [sys.executable, "-m", "cli", "compare", "--data", archive, "--config", config, "--folder", folder],
        env={**os.environ, "DIFFTUNE_URL": str(service.http.base_url), "DIFFTUNE_API_KEY": service.client.api_key},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    summary = json.loads(done.stdout.splitlines()[-1])
    assert (summary["ok"], summary["missing"]) == (True, 0)
    for figure in ("fid", "fid_none", "kid", "null_fid", "retention_loss"):
        assert summary["figures"][figure]["methods"]["diff_tuning"]["n"] == 2
        assert summary["figures"][figure]["pairs"][0]["n"] == 2
    assert {path.name for path in folder.iterdir()} == {"comparison.json", "comparison.html", "comparison.png"}
    shown = service.http.get(f"/v1/comparisons/{summary['id']}").json()
    assert shown["status"] == "succeeded"
    assert {job["status"] for job in shown["jobs"]} == {"succeeded"}
