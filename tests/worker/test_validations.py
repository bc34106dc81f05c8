from __future__ import annotations

import json
from typing import Any

from api.datasets.models import Dataset

Bench = Any  # the class of conftest.py


def test_validation_settles_a_good_data_set(bench: Bench) -> None:
    dataset_id = bench.dataset({"errors": []}, ready=False)
    with bench.worker():
        bench.wait(lambda: bench.get(Dataset, dataset_id).status == "ready")
    dataset = bench.get(Dataset, dataset_id)
    assert (dataset.num_items, dataset.class_names, dataset.error_code) == (2, ["a"], None)
    assert len(dataset.sha256) == 64
    assert json.loads(b"".join(bench.store.read(dataset.report_key)))["ok"] is True
    assert b"a/1.png" in b"".join(bench.store.read(dataset.items_key))


def test_validation_names_what_is_wrong_and_fails_the_jobs_that_wait(bench: Bench) -> None:
    errors = [{"path": f"a/{n}.jpg", "code": "truncated_image", "message": "ends early"} for n in range(150)]
    dataset_id = bench.dataset({"errors": errors}, ready=False)
    job_id = bench.job(dataset=dataset_id)
    with bench.worker():
        job = bench.wait_final(job_id)
    dataset = bench.get(Dataset, dataset_id)
    assert (dataset.status, dataset.error_code) == ("invalid", "truncated_image")
    assert dataset.error_message == "a/0.jpg: ends early (and 149 more)"
    assert len(dataset.report["errors"]) == 100
    assert (job.status, job.error_code, job.error_param) == ("failed", "dataset_invalid", "training_file")


def test_a_job_waits_for_its_data_set(bench: Bench) -> None:
    dataset_id = bench.dataset({"steps": 3}, ready=False)
    job_id = bench.job({"steps": 3}, dataset=dataset_id)
    assert bench.status(job_id) == "validating_files"
    with bench.worker():
        assert bench.wait_final(job_id).status == "succeeded"


def test_a_report_outside_the_childs_folder_is_not_read(bench: Bench) -> None:
    dataset_id = bench.dataset({"errors": [], "outside": True}, ready=False)
    with bench.worker():
        bench.wait(lambda: bench.get(Dataset, dataset_id).status == "invalid")
    assert set(bench.reasons(dataset_id)) == {"internal_error"}


def test_a_wrong_md5_is_found_without_a_child(bench: Bench) -> None:
    dataset_id = bench.dataset({"crash": True}, ready=False, expected_md5="0" * 32)
    with bench.worker():
        bench.wait(lambda: bench.get(Dataset, dataset_id).status == "invalid")
    assert bench.get(Dataset, dataset_id).error_code == "checksum_mismatch"
    assert bench.reasons(dataset_id) == ["succeeded"]


def test_a_validation_that_breaks_each_time_makes_the_data_set_invalid(bench: Bench) -> None:
    dataset_id = bench.dataset({"crash": True}, ready=False)
    with bench.worker():
        bench.wait(lambda: bench.get(Dataset, dataset_id).status == "invalid")
    assert bench.get(Dataset, dataset_id).error_code == "crash_loop"
    assert bench.reasons(dataset_id) == ["killed"] * 3


def test_a_part_gone_from_the_store_is_named(bench: Bench) -> None:
    dataset_id = bench.dataset({"errors": []}, ready=False)
    bench.store.delete(bench.get(Dataset, dataset_id).parts[1]["key"])
    with bench.worker():
        bench.wait(lambda: bench.get(Dataset, dataset_id).status == "invalid")
    lost = bench.get(Dataset, dataset_id)
    assert lost.error_code == "object_missing"
    key = lost.parts[1]["key"]
    assert lost.error_message == f"The object {key} of data set {dataset_id} is not in the store any more."
