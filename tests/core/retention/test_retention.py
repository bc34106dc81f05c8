from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from pydantic import ValidationError
from safetensors.torch import load_file, save_file

import difftune_core
from difftune_core.config.card import BaseModelCard
from difftune_core.config.resolution import resolve
from difftune_core.config.retention import (
    RetentionSetConfig,
    RetentionSetInfo,
    RetentionSetRequest,
    retention_digest,
)
from difftune_core.config.transfer import TransferConfig
from difftune_core.diffusion.reverse import Sampling
from difftune_core.families.base_model import BaseModel
from difftune_core.families.dit.draw import sample_latents
from difftune_core.families.preparation import Folders
from difftune_core.families.retain import FILE, retain
from difftune_core.families.table import find_base_model
from difftune_core.files import COMPUTED, sha256_file, sha256_json
from difftune_core.hooks import ProgressEvent, TaskError
from difftune_core.retention.bank import (
    RetentionSet,
    load_retention_set,
    read_info,
    retention_place,
    retention_set,
    save_retention_set,
)
from difftune_core.retention.sample import CHUNK, retention_labels
from difftune_core.train.run import train
from tests.core.conftest import RecordingHooks

BUNDLED = Path(difftune_core.__path__[0]) / "weights"
TWO_CHUNKS = 2 * CHUNK + 20
QUICK = RetentionSetConfig(num_images=TWO_CHUNKS, num_inference_steps=2)


@pytest.fixture(scope="module")
def base() -> BaseModel:
    torch.set_num_threads(1)
    return find_base_model("tiny-dit", [BUNDLED])


@pytest.fixture(scope="module")
def cache(base: BaseModel, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Holds the set of `QUICK`, made without interruption."""
    folder = tmp_path_factory.mktemp("cache")
    retention_set(base, QUICK, folder)
    return folder


def quick_in(cache: Path, base: BaseModel) -> Path:
    """Where the set of `QUICK` is kept."""
    return retention_place(cache, base, retention_digest(base.card.digest, QUICK))


def settings(folder: Path, **fields: Any) -> Path:
    path = folder / "settings.json"
    path.write_text(json.dumps({"model": "tiny-dit", **fields}), encoding="utf-8")
    return path


def command(*arguments: str | Path) -> list[str]:
    return [sys.executable, "-m", "difftune_core", *map(str, arguments)]


def test_chunks_change_no_byte(base: BaseModel, cache: Path) -> None:
    """Against the whole set sampled and decoded at once."""
    found = retention_set(base, QUICK, cache)
    labels = torch.arange(TWO_CHUNKS) % base.card.num_classes
    sampling = Sampling(num_inference_steps=2, guidance_scale=QUICK.guidance_scale)
    images = base.load_autoencoder().decode(sample_latents(base.load_dit().eval(), labels, sampling))
    assert torch.equal(found.labels, labels)
    assert np.array_equal(found.images, images)
    assert [path for path in (cache / COMPUTED / "retention").iterdir() if path.is_dir()] == [quick_in(cache, base)]


def test_a_uniform_distribution_leaves_digests_as_they_were() -> None:
    config = RetentionSetConfig(num_images=7, seed=3)
    sampled = {"num_images": 7, "sampler": "ddim", "num_inference_steps": 50, "guidance_scale": 1.5, "seed": 3}
    assert retention_digest("b", config) == sha256_json({"format": 1, "base": "b", **sampled})
    other = RetentionSetConfig.model_validate({"num_images": 7, "seed": 3, "class_distribution": [{"label": 1}]})
    assert retention_digest("b", other) != retention_digest("b", config)


def test_what_a_stopped_process_has_sampled_is_not_sampled_again(
    base: BaseModel, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(done: int) -> None:
        if done == CHUNK:
            raise InterruptedError

    with pytest.raises(InterruptedError):
        retention_set(base, QUICK, tmp_path, progress=stop)
    first: list[int] = []
    sampled = sample_latents

    def counted(*args: Any, first_index: int, **kwargs: Any) -> torch.Tensor:
        first.append(first_index)
        return sampled(*args, first_index=first_index, **kwargs)

    monkeypatch.setattr("difftune_core.families.dit.base_model.sample_latents", counted)
    done: list[int] = []
    found = retention_set(base, QUICK, tmp_path, progress=done.append)
    assert first == [CHUNK, 2 * CHUNK]
    assert [count for count in done if count % CHUNK == 0] == [CHUNK, 2 * CHUNK]
    assert done[-1] == TWO_CHUNKS
    assert done == sorted(done)
    made = [quick_in(folder, base) / "images.safetensors" for folder in (tmp_path, cache)]
    assert sha256_file(made[0]) == sha256_file(made[1])
    assert np.array_equal(found.images, retention_set(base, QUICK, cache).images)


def test_a_torn_chunk_is_sampled_again(base: BaseModel, cache: Path, tmp_path: Path) -> None:
    final = quick_in(tmp_path, base)
    chunks = final.with_name(f".{final.name}.chunks")
    chunks.mkdir(parents=True)
    (chunks / "images-00000000.safetensors").write_bytes(b"\x10")
    save_file({"images": torch.zeros(3, 32, 32, 3, dtype=torch.uint8)}, chunks / "images-00000128.safetensors")
    assert np.array_equal(retention_set(base, QUICK, tmp_path).images, retention_set(base, QUICK, cache).images)


@pytest.mark.long
def test_a_killed_retain_goes_on_and_gives_the_same_bytes(base: BaseModel, cache: Path, tmp_path: Path) -> None:
    given = {"num_images": TWO_CHUNKS, "num_inference_steps": 2, "base_digest": base.card.digest}
    run = command("retain", settings(tmp_path, **given), "--cache", tmp_path / "cache", "--out", tmp_path / "out")
    process = subprocess.Popen(run, stderr=subprocess.DEVNULL)
    final = quick_in(tmp_path / "cache", base)
    chunks = final.with_name(f".{final.name}.chunks")
    deadline = time.monotonic() + 120
    while not list(chunks.glob("images-*")):
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.001)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert not (tmp_path / "out" / FILE).exists()
    assert 0 < len(list(chunks.glob("images-*"))) < 3
    done = subprocess.run(run, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    whole = RecordingHooks()
    request = RetentionSetRequest.model_validate({**dict(QUICK), "model": "tiny-dit"})
    (tmp_path / "whole").mkdir()
    retain(request, data=None, models=[BUNDLED], cache=cache, out=tmp_path / "whole", hooks=whole)
    assert sha256_file(tmp_path / "out" / FILE) == sha256_file(tmp_path / "whole" / FILE)


@pytest.mark.long
def test_settings_that_are_left_out_come_from_the_card(tmp_path: Path) -> None:
    path = settings(tmp_path, num_images=4, num_inference_steps=1, class_distribution=[{"label": 51}, {"label": 3}])
    done = subprocess.run(command("retain", path, "--out", tmp_path), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    info = read_info(tmp_path / FILE)
    assert info.settings is not None
    assert (info.settings["guidance_scale"], info.settings["num_images"]) == (1.5, 4)
    assert info.settings["class_distribution"] == [{"label": 3, "weight": 1.0}, {"label": 51, "weight": 1.0}]
    assert load_file(tmp_path / FILE)["labels"].tolist() == [3, 51, 3, 51]


@pytest.mark.parametrize("weights", [[1.0, 2.0, 7.0], [1e-3, 1.0, 1.0], [5.0, 0.5, 0.25]])
def test_weights_become_counts_that_are_mixed_over_the_set(weights: list[float]) -> None:
    shares = [{"label": 2 * n, "weight": weight} for n, weight in enumerate(weights)]
    config = RetentionSetConfig.model_validate({"num_images": 100, "class_distribution": shares})
    labels = retention_labels(config, 10).tolist()
    counts = Counter(labels)
    for n, weight in enumerate(weights):
        exact = 100 * weight / sum(weights)
        assert abs(counts[2 * n] - exact) < 1
        assert abs(labels[:50].count(2 * n) - exact / 2) <= 1
    assert len(labels) == 100


def test_equal_weights_take_turns() -> None:
    config = RetentionSetConfig.model_validate({"num_images": 7, "class_distribution": [{"label": 4}, {"label": 1}]})
    assert retention_labels(config, 5).tolist() == [1, 4, 1, 4, 1, 4, 1]
    with pytest.raises(TaskError, match="classes 0 to 3, not 4") as caught:
        retention_labels(config, 4)
    assert caught.value.code == "label_out_of_range"


@pytest.mark.parametrize(
    "given", [[], [{"label": 1}, {"label": 1}], [{"label": -1}], [{"label": 1, "weight": 0}], "even", [3]]
)
def test_a_distribution_that_is_none_is_refused(given: object) -> None:
    with pytest.raises(ValidationError):
        RetentionSetConfig.model_validate({"class_distribution": given})


def small_set(path: Path, base: BaseModel, *, size: int = 32, **info: str) -> Path:
    images = np.zeros((6, size, size, 3), dtype=np.uint8)
    known = {"digest": "d" * 64, "model": "tiny-dit", "base_digest": base.card.digest, "settings": None}
    found = RetentionSet(images, torch.zeros(6, dtype=torch.int64), "d" * 64)
    save_retention_set(found, RetentionSetInfo.model_validate({**known, **info}), path)
    return path


def test_a_set_of_another_base_model_is_refused_with_both_digests(base: BaseModel, tmp_path: Path) -> None:
    path = small_set(tmp_path / "other.safetensors", base, base_digest="e" * 64)
    with pytest.raises(TaskError) as caught:
        load_retention_set(path, base)
    assert (caught.value.code, caught.value.param) == (
        "retention_set_mismatch",
        "method.diff_tuning.hyperparameters.retention_set",
    )
    assert "e" * 64 in str(caught.value)
    assert base.card.digest in str(caught.value)


def test_a_set_of_another_image_size_or_none_at_all_is_refused(base: BaseModel, tmp_path: Path) -> None:
    with pytest.raises(TaskError, match=r"\(16, 16, 3\)"):
        load_retention_set(small_set(tmp_path / "small.safetensors", base, size=16), base)
    save_file({"images": torch.zeros(1), "labels": torch.zeros(1)}, tmp_path / "plain.safetensors")
    (tmp_path / "text.safetensors").write_text("images")
    for name in ("plain", "text"):
        with pytest.raises(TaskError, match=f"{name}.safetensors is no retention set"):
            load_retention_set(tmp_path / f"{name}.safetensors", base)


def test_another_base_model_than_asked_for_is_refused(tmp_path: Path) -> None:
    request = RetentionSetRequest(model="tiny-dit", base_digest="f" * 64)
    with pytest.raises(TaskError, match="not ffff") as caught:
        retain(request, data=None, models=[BUNDLED], cache=tmp_path, out=tmp_path, hooks=RecordingHooks())
    assert caught.value.code == "model_mismatch"


def images_of_two_classes(root: Path) -> Path:
    rng = np.random.default_rng(0)
    for i in range(12):
        (root / str(i % 2)).mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 255, (40, 36, 3), dtype=np.uint8)).save(root / str(i % 2) / f"{i}.png")
    return root


def test_uploaded_images_get_the_null_label(base: BaseModel, tmp_path: Path) -> None:
    data = images_of_two_classes(tmp_path / "data")
    archive = Path(shutil.make_archive(str(tmp_path / "images"), "zip", data))
    sha256 = hashlib.sha256(archive.read_bytes()).hexdigest()
    hooks, request = RecordingHooks(), RetentionSetRequest(model="tiny-dit", images_sha256=sha256)
    cache = tmp_path / "of" / "nobody yet"
    outcome = retain(request, data=archive, models=[BUNDLED], cache=cache, out=tmp_path, hooks=hooks)
    assert outcome.code == "succeeded"
    found = load_retention_set(tmp_path / FILE, base)
    assert found.images.shape == (12, 32, 32, 3)
    assert set(found.labels.tolist()) == {base.card.num_classes}
    assert found.digest == sha256_json({"format": 1, "base": base.card.digest, "images": sha256})
    assert [e.done for e in hooks.events if isinstance(e, ProgressEvent)] == [0, 12]
    assert read_info(tmp_path / FILE).settings is None


def transfer(base: BaseModel, retention: object) -> TransferConfig:
    given = {"max_steps": 2, "batch_size": 4, "retention_set": retention}
    small = {"num_images": 8, "num_inference_steps": 1}
    evaluation = {**small, "holdout_fraction": 0.3, "every_steps": None}
    card = BaseModelCard.model_validate({**base.card.model_dump(), "defaults": {"retention_set": small}})
    method = {"type": "diff_tuning", "diff_tuning": {"hyperparameters": given}}
    config = TransferConfig.model_validate({"model": "tiny-dit", "method": method, "evaluation": evaluation})
    return resolve(config, card, num_threads=1)


def test_a_run_takes_the_set_from_its_file_and_the_report_says_so(base: BaseModel, tmp_path: Path) -> None:
    id_ = f"rset_{'0' * 26}"
    path = small_set(tmp_path / "set.safetensors", base)
    out = tmp_path / "out"
    out.mkdir()
    folders = Folders(images_of_two_classes(tmp_path / "data"), None, [BUNDLED], tmp_path / "cache", out, path)
    assert train(transfer(base, id_), folders, RecordingHooks()).code == "succeeded"
    report = json.loads((out / "report.json").read_text(encoding="utf-8"))
    assert report["retention_set"] == {"id": id_, "digest": "d" * 64, "num_images": 6}
    assert "d" * 64 in (out / "report.html").read_text(encoding="utf-8")


def test_a_set_that_is_only_named_needs_its_file(base: BaseModel, tmp_path: Path) -> None:
    data = images_of_two_classes(tmp_path / "data")
    (tmp_path / "out").mkdir()
    with pytest.raises(TaskError, match="--retention") as caught:
        train(
            transfer(base, f"rset_{'0' * 26}"),
            Folders(data, None, [BUNDLED], tmp_path / "cache", tmp_path / "out"),
            RecordingHooks(),
        )
    assert caught.value.code == "retention_set_missing"
