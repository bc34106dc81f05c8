"""`difftune.Client` on a running service."""

from __future__ import annotations

import zipfile
from pathlib import Path

import pytest

import difftune
from tests.e2e.conftest import EVALUATION, QUICK, Service, image_zip


@pytest.mark.long
def test_a_job_from_a_folder_to_its_files_and_on(service: Service, tmp_path: Path) -> None:
    (tmp_path / "squares.zip").write_bytes(image_zip())
    with zipfile.ZipFile(tmp_path / "squares.zip") as archive:
        archive.extractall(tmp_path / "squares")
    with difftune.Client(str(service.http.base_url), service.client.api_key) as client:
        settings = {**QUICK, "max_steps": None, "log_every_steps": 5}
        plan = client.plan(tmp_path / "squares", steps=10, evaluation=EVALUATION, **settings)
        assert plan["config"]["method"]["diff_tuning"]["hyperparameters"]["max_steps"] == 10
        job = client.submit(tmp_path / "squares", steps=10, name="squares", evaluation=EVALUATION, **settings)
        assert repr(job.watch(show=False)) == f"Job('{job.id}', 'succeeded')"
        assert {"fid", "train_loss"} <= job.figures.keys()
        assert job.curves["train_loss"][-1] == (10, job.figures["train_loss"])
        assert {0, 10} <= job.images.keys()
        assert zipfile.is_zipfile(job.download(tmp_path / "out"))
        assert job.report(tmp_path / "out").suffix == ".html"
        further = job.continued(steps=5).cancel()
        assert further.data["model"] == job.data["fine_tuned_model"]
        assert further.data["method"]["diff_tuning"]["hyperparameters"]["max_steps"] == 5
        with pytest.raises(difftune.JobFailedError, match="is cancelled"):
            further.watch(show=False)
