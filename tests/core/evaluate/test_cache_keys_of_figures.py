"""What the names of cached figures depend on (docs/decisions/0007-cache-keys.md)."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from difftune_core.config.analysis import ChainOfForgetting
from difftune_core.config.control import ControlConfig
from difftune_core.config.evaluation import EvaluationConfig
from difftune_core.config.resolution import resolve
from difftune_core.config.transfer import TransferConfig
from difftune_core.data.controlled import ControlledSet
from difftune_core.data.decoded import Images
from difftune_core.data.latents import LatentSet
from difftune_core.diffusion.reverse import Sampling
from difftune_core.evaluate.features import load_extractor
from difftune_core.families.base_model import BaseModel
from difftune_core.families.controlnet.base_model import StableDiffusion
from difftune_core.families.controlnet.judge import ControlNetJudge
from difftune_core.families.dit.analyse import _Analysis
from difftune_core.families.dit.chain import ChainDrawing
from difftune_core.families.dit.judge import DiTJudge
from difftune_core.families.dit.tuned import TunedCheckpoint
from difftune_core.families.preparation import Folders, Preparation
from difftune_core.families.table import find_base_model
from difftune_core.networks.autoencoder import Autoencoder
from difftune_core.networks.dit import DiT
from difftune_core.runtime.precision import Precision
from tests.core.conftest import RecordingHooks
from tests.core.noted import LABELS, OTHER_PIXELS, PIXELS, Asked, asking, changed, none, with_digest
from tests.core.runs import BUNDLED


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[[Callable[..., Any]], Asked]:
    return asking(monkeypatch, tmp_path)


@pytest.fixture(scope="module")
def base() -> BaseModel:
    return find_base_model("tiny-dit", [BUNDLED])


REFERENCES: dict[str, Any] = {
    "num_images": 9,
    "sampler": "ddpm",
    "num_inference_steps": 3,
    "guidance_scale": 2.0,
    "guidance": "none",
    "guidance_interval": (0.1, 0.9),
    "guided_channels": 3,
    "other_guidance": ("none",),
    "metrics": ("fid", "kid", "fid_infinity"),
    "class_distribution": "equal",
    "seed": 5,
}
NO_MATTER = {  # of how a model is judged: when, and what follows from it
    *("preset", "every_steps", "clip_model", "best_metric", "early_stopping", "deliver", "holdout_fraction"),
    "feature_extractors",  # whose contents count
    *("handover", "noise_guidance_scale"),  # of the tuned model alone
}


@pytest.fixture
def judge(base: BaseModel, tmp_path: Path) -> DiTJudge:
    latents = torch.zeros(1, 4, 4, 8, 8).half()
    return DiTJudge(
        base=base,
        config=EvaluationConfig(),
        extractors=(load_extractor(BUNDLED / "tiny-features"),),
        autoencoder=object.__new__(Autoencoder),  # not asked
        real=PIXELS,
        real_labels=LABELS,
        real_digest="of the held-out images",
        source=PIXELS,
        source_latents=LatentSet(latents, latents, LABELS, "of the source"),
        cache=tmp_path,
        device=torch.device("cpu"),
    )


def extractor(folder: Path, **card: Any) -> Path:
    """A copy of the bundled one whose card says something else, or whose weights are others."""
    shutil.copytree(BUNDLED / "tiny-features", folder)
    if card:
        (folder / "card.json").write_text(json.dumps(card), encoding="utf-8")
    else:
        weights = load_file(folder / "model.safetensors")
        name = min(weights)
        save_file({**weights, name: weights[name] + 1}, folder / "model.safetensors")
        (folder / "card.json").write_text("{}", encoding="utf-8")
    return folder


def test_references(asked: Callable[..., Asked], judge: DiTJudge, tmp_path: Path) -> None:
    def place(*_: Any, judge: DiTJudge, cache: Path) -> Any:
        return replace(judge, cache=cache).references(lambda _: None)

    of = asked(place)
    first = of(judge=judge)
    assert first == of(judge=replace(judge, real=PIXELS.copy()))
    others = {
        name: replace(judge, config=judge.config.model_copy(update={name: value})) for name, value in REFERENCES.items()
    }
    same_size = [
        name for name in OTHER_PIXELS if len(OTHER_PIXELS[name]) == 4 and "size" not in name and "shape" not in name
    ]
    others |= {f"held-out images: {name}": replace(judge, real=OTHER_PIXELS[name]) for name in same_size}
    others |= {
        "the held-out images' classes": replace(judge, real_digest="of other classes"),
        "the judge's source images": replace(judge, source=changed(PIXELS)),
        "their latents": replace(judge, source_latents=replace(judge.source_latents, digest="of others")),
        "the base model": replace(judge, base=with_digest(judge.base, "of another")),
        "the extractor's weights": replace(judge, extractors=(load_extractor(extractor(tmp_path / "tiny-features")),)),
        "how images are brought to it": replace(
            judge,
            extractors=(load_extractor(extractor(tmp_path / "resized", id="tiny-features", resizing="pytorch-fid")),),
        ),
        "a further extractor": replace(judge, extractors=(*judge.extractors, *judge.extractors)),
        "the precision": replace(judge, precision=Precision("bf16", torch.device("cpu"))),
    }
    places = {name: of(judge=other) for name, other in others.items()}
    assert [name for name, found in places.items() if found == first] == []
    assert len(set(places.values())) == len(places)
    told = REFERENCES.keys() | NO_MATTER
    assert EvaluationConfig.model_fields.keys() == told, "say of a new setting whether references depend on it"


@pytest.fixture
def follower(judge: DiTJudge, tmp_path: Path) -> ControlNetJudge:
    """A judge of ControlNets; its networks are not asked."""
    base = find_base_model("tiny-sd", [BUNDLED])
    assert isinstance(base, StableDiffusion)
    held_out = ControlledSet(judge.source_latents, torch.zeros(4, 3, 8, 8).byte(), torch.zeros(1, 1, 1).half(), LABELS)
    return ControlNetJudge(
        base=base,
        unet=None,
        autoencoder=judge.autoencoder,
        config=judge.config,
        control=ControlConfig(condition="edge", default_prompt=""),
        annotator=none,
        clip=None,
        captions=("a", "b", "c", "d"),
        extractors=judge.extractors,
        real=PIXELS,
        real_digest="of the rows, their captions and controls",
        held_out=held_out,
        source=held_out,
        source_images=PIXELS,
        source_sampling=Sampling(),
        source_digest="of the source",
        source_recipe={},
        empty_prompt=0,
        cache=tmp_path,
        drawn_by="lines 1",
        device=judge.device,
    )


def test_references_of_a_controlnet(asked: Callable[..., Asked], follower: ControlNetJudge) -> None:
    def place(*_: Any, judge: ControlNetJudge, cache: Path) -> Any:
        return replace(judge, cache=cache).references(lambda _: None)

    of = asked(place)
    first, control, held_out = of(judge=follower), follower.control, follower.held_out
    assert first == of(judge=replace(follower, real=PIXELS.copy()))
    assert isinstance(held_out.latents, LatentSet)
    other_latents = replace(held_out, latents=replace(held_out.latents, digest="of others"))
    others = {
        "the base model": replace(follower, base=with_digest(follower.base, "of another")),
        "how images are drawn": replace(follower, config=follower.config.model_copy(update={"guidance_scale": 3.0})),
        "metrics": replace(follower, config=follower.config.model_copy(update={"metrics": ("fid",)})),
        "the condition": replace(follower, control=control.model_copy(update={"condition": "sketch"})),
        "the default prompt": replace(follower, control=control.model_copy(update={"default_prompt": "a solid"})),
        "how many are compared": replace(follower, control=control.model_copy(update={"num_validation": 2})),
        "who draws controls": replace(follower, drawn_by="lines 2"),
        "held-out images": replace(follower, real=changed(PIXELS)),
        "their captions or controls": replace(follower, real_digest="of others"),
        "their latents": replace(follower, held_out=other_latents),
        "the base model's images": replace(follower, source_digest="of others"),
        "their own latents": replace(follower, source=other_latents),
        "the precision": replace(follower, precision=Precision("bf16", torch.device("cpu"))),
    }
    places = {name: of(judge=other) for name, other in others.items()}
    assert [name for name, found in places.items() if found == first] == []
    assert len(set(places.values())) == len(places)


@pytest.fixture
def analysis(base: BaseModel, judge: DiTJudge, tmp_path: Path) -> _Analysis:
    config = resolve(TransferConfig(model="tiny-dit"), base.card, num_threads=1)
    folders = Folders(tmp_path, None, [BUNDLED], tmp_path, tmp_path)
    return _Analysis(
        config=ChainOfForgetting(model="tiny-dit"),
        shares=[0.0, 0.5],
        preparation=Preparation(config, base, folders, RecordingHooks(), torch.device("cpu")),
        checkpoints=[],
        class_names=("a", "b"),
        held_out=Images(PIXELS, tuple(("a", str(n)) for n in range(4)), "", LABELS),
        drawing=ChainDrawing(Sampling(), 8, 2, judge.autoencoder, judge.extractors[0]),
        base_model=object.__new__(DiT),  # not asked
    )


def checkpoint(folder: Path, digest: str = "d", config: str = "{}") -> TunedCheckpoint:
    folder.mkdir()
    (folder / "config.json").write_text(config, encoding="utf-8")
    return TunedCheckpoint("tuned", folder, 7, digest)


def test_chains(asked: Callable[..., Asked], analysis: _Analysis, tmp_path: Path) -> None:
    def place(analysis: _Analysis, tuned: TunedCheckpoint, cache: Path) -> Path:
        assert cache == tmp_path
        return analysis._chain_folder(tuned, 0, np.zeros((4, 2), np.float32))

    of, tuned = asked(place), checkpoint(tmp_path / "tuned")
    held_out, drawing, preparation = analysis.held_out, analysis.drawing, analysis.preparation
    first = of(analysis, tuned)
    assert first == of(analysis, checkpoint(tmp_path / "same"))
    places = [
        of(analysis, checkpoint(tmp_path / "weights", digest="e")),
        of(analysis, checkpoint(tmp_path / "anatomy", config='{"depth": 2}')),
        of(replace(analysis, shares=[0.0, 0.25]), tuned),
        of(replace(analysis, held_out=replace(held_out, pixels=PIXELS[[1, 0, 2, 3]])), tuned),
        of(replace(analysis, held_out=replace(held_out, contents=held_out.contents[::-1])), tuned),
        of(replace(analysis, drawing=replace(drawing, num_images=9)), tuned),
        of(replace(analysis, drawing=replace(drawing, num_examples=1)), tuned),
        of(replace(analysis, drawing=replace(drawing, sampling=Sampling(seed=1))), tuned),
        of(replace(analysis, drawing=replace(drawing, extractor=load_extractor(extractor(tmp_path / "eyes")))), tuned),
        of(replace(analysis, preparation=replace(preparation, base=with_digest(preparation.base, "other"))), tuned),
    ]
    assert len({first, *places}) == 1 + len(places)
