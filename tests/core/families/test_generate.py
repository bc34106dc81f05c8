"""Images on request: drawn in this process from the bundled model."""

from __future__ import annotations

import struct
import zlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import difftune_core
from difftune_core.config.generation import GenerationConfig
from difftune_core.diffusion.reverse import Sampling
from difftune_core.families import generate as story
from difftune_core.families.dit.base_model import DiTModel
from difftune_core.families.dit.draw import sample_latents
from difftune_core.families.dit.painter import DiTPainter
from difftune_core.families.generate import Inputs, generate
from difftune_core.families.painter import Wanted
from difftune_core.families.table import find_base_model
from difftune_core.hooks import ArtifactEvent, Event, StopKind, TaskError

ROOTS = [Path(difftune_core.__path__[0]) / "weights"]
HEAD = b"IHDR" + struct.pack(">2I5B", 60_000, 60_000, 8, 2, 0, 0, 0)
PNG_OF_A_BOMB = b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + HEAD + struct.pack(">I", zlib.crc32(HEAD)) + bytes(64)
CONFIG = GenerationConfig(model="tiny-dit", num_images=10, label=3, num_inference_steps=2, seed=5)


class Heard:
    """Hears what is said, and asks for a stop once so many images are there."""

    def __init__(self, stop_after: int | None = None) -> None:
        self.events: list[Event] = []
        self.stop_after = stop_after

    @property
    def files(self) -> list[str]:
        return [event.file.path for event in self.events if isinstance(event, ArtifactEvent)]

    def emit(self, event: Event) -> None:
        self.events.append(event)

    def stop_requested(self) -> StopKind | None:
        return "stop" if self.stop_after is not None and len(self.files) >= self.stop_after else None

    def release(self, checkpoint: Path) -> bool:
        del checkpoint
        return True


def ask(out: Path, hooks: Heard, config: GenerationConfig = CONFIG) -> str:
    out.mkdir(exist_ok=True)
    return generate(config, Inputs(ROOTS, None, None, out), hooks).code


def pixels(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(image)


def test_images_are_those_of_the_sampler_and_each_has_its_noise(tmp_path: Path) -> None:
    assert ask(tmp_path, Heard(), CONFIG.model_copy(update={"num_images": 3})) == "succeeded"
    base = find_base_model("tiny-dit", ROOTS)
    assert isinstance(base, DiTModel)
    latents = sample_latents(base.load_dit().eval(), torch.full((3,), 3), Sampling.of(CONFIG))
    expected = base.load_autoencoder().decode(latents)
    drawn = np.stack([pixels(tmp_path / f"image-000{i}.png") for i in range(3)])
    assert np.array_equal(drawn, expected)
    assert not np.array_equal(drawn[0], drawn[1])


def test_what_a_stopped_attempt_has_drawn_is_kept_and_the_rest_is_the_same(tmp_path: Path) -> None:
    whole, first, second = Heard(), Heard(stop_after=8), Heard()
    assert ask(tmp_path / "whole", whole) == "succeeded"
    assert ask(tmp_path / "parts", first) == "stopped"
    assert len(first.files) == 8
    made = (tmp_path / "parts" / "image-0000.png").stat().st_mtime_ns
    assert ask(tmp_path / "parts", second) == "succeeded"
    assert second.files == whole.files == [f"image-{i:04d}.png" for i in range(10)]
    assert (tmp_path / "parts" / "image-0000.png").stat().st_mtime_ns == made
    for name in whole.files:
        assert (tmp_path / "parts" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


def test_a_model_in_memory_is_not_loaded_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one = CONFIG.model_copy(update={"num_images": 1})
    ask(tmp_path / "a", Heard(), one)
    monkeypatch.setattr(story, "family_of", lambda _: pytest.fail("loaded again"))
    assert ask(tmp_path / "b", Heard(), one.model_copy(update={"label": 4})) == "succeeded"


def test_a_hand_over_is_drawn_by_both_models_and_the_base_model_has_nobody_to_hand_over_to() -> None:
    base = find_base_model("tiny-dit", ROOTS)
    assert isinstance(base, DiTModel)
    painter = DiTPainter(base, None, torch.device("cpu"))
    painter._tuned = tuned = base.load_dit().eval()
    with torch.no_grad():
        tuned.final_layer.linear.weight.mul_(1.1)
    how = Sampling(num_inference_steps=4, handover=0.5, seed=5)
    given = {"first": 0, "count": 2, "progress": lambda _: None}
    latents = sample_latents(tuned, torch.full((2,), 3), how, source=base.load_dit().eval())
    drawn = painter.draw(Wanted(label=3), how, of_base=False, **given)
    assert np.array_equal(drawn, base.load_autoencoder().decode(latents))
    alone = painter.draw(Wanted(label=3), replace(how, handover=0.0), of_base=False, **given)
    assert not np.array_equal(drawn, alone)
    of_base = [painter.draw(Wanted(label=3), each, of_base=True, **given) for each in (how, replace(how, handover=0.0))]
    assert np.array_equal(*of_base)


@pytest.mark.parametrize("content", [b"no picture", PNG_OF_A_BOMB, b""], ids=["other", "bomb", "empty"])
def test_a_control_image_that_cannot_be_read_is_named(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "control.png").write_bytes(content)
    with pytest.raises(TaskError, match="the control image cannot be read") as caught:
        story.read_control(tmp_path / "control.png", 8)
    assert (caught.value.code, caught.value.param) == ("unreadable_image", "control_image")
