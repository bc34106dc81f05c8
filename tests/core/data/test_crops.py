"""How images of any shape become square, and what a run trains on and is judged by then."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import difftune_core
from difftune_core.config.card import read_card
from difftune_core.config.crops import CropName
from difftune_core.config.resolution import resolve
from difftune_core.config.transfer import TransferConfig
from difftune_core.data.crops import CENTRE, Crop
from difftune_core.data.decoded import Rows
from difftune_core.families.preparation import Folders, Preparation
from difftune_core.families.rows import captioned_rows
from difftune_core.families.table import find_base_model
from tests.core.conftest import RecordingHooks

BUNDLED = Path(difftune_core.__file__).parent / "weights"
SIZE, WIDTH = 64, 192


def ramp(number: int) -> Image.Image:
    """Wide, with levels that rise from left to right: a level says where in the picture a pixel was."""
    columns = np.broadcast_to(np.arange(WIDTH, dtype=np.uint8)[None, :, None], (SIZE, WIDTH, 3)).copy()
    columns[..., 2] = number
    return Image.fromarray(columns)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve such images; the control of each is the image itself."""
    folder = tmp_path_factory.mktemp("ramps")
    (folder / "controls").mkdir()
    lines = []
    for number in range(12):
        for name in (f"{number}.png", f"controls/{number}.png"):
            ramp(number).save(folder / name)
        lines.append({"file_name": f"{number}.png", "text": "a", "conditioning_image": f"controls/{number}.png"})
    (folder / "metadata.jsonl").write_text("\n".join(map(json.dumps, lines)), encoding="utf-8")
    return folder


def rows_of(data: Path, crop: CropName, seed: int = 0) -> tuple[Rows, Rows]:
    card = read_card(BUNDLED / "tiny-sd")
    method = {"type": "supervised", "supervised": {"hyperparameters": {"crop": crop}}}
    given = {"model": card.id, "method": method, "control": {"condition": "edge"}, "seed": seed}
    config = resolve(TransferConfig.model_validate(given), card, num_threads=1)
    folders = Folders(data, None, [BUNDLED], data / ".cache", data)
    base = find_base_model(card.id, [BUNDLED])
    return captioned_rows(Preparation(config, base, folders, RecordingHooks(), torch.device("cpu")))


def lefts(rows: Rows) -> list[int]:
    return [int(image[0, 0, 0]) for image in rows.pixels]


@pytest.mark.parametrize("crop", ["center", "resize", "random"])
def test_controls_are_cut_as_their_images_are(data: Path, crop: CropName) -> None:
    for rows in rows_of(data, crop):
        assert rows.controls is not None
        assert np.array_equal(rows.pixels[:], rows.controls[:])


def test_random_places_are_drawn_once_and_the_held_out_are_cut_in_the_middle(data: Path) -> None:
    target, held_out = rows_of(data, "random")
    assert len(set(lefts(target))) > 5
    assert all(0 <= left <= WIDTH - SIZE for left in lefts(target))
    assert lefts(target) == lefts(rows_of(data, "random")[0])
    assert set(lefts(held_out)) == {(WIDTH - SIZE) // 2}


def test_what_is_held_out_does_not_depend_on_the_crop(data: Path) -> None:
    digests = {tuple(rows.digest for rows in rows_of(data, crop)) for crop in ("center", "resize", "random")}
    assert len(digests) == 1


def test_the_whole_is_squeezed_for_training_and_for_judging(data: Path) -> None:
    for rows in rows_of(data, "resize"):
        assert all(image[0, 0, 0] < 3 and image[0, -1, 0] > WIDTH - 4 for image in rows.pixels)


def test_the_middle_is_cut_as_before() -> None:
    assert np.array_equal(np.asarray(CENTRE(ramp(3), SIZE, "")), np.asarray(ramp(3))[:, SIZE : 2 * SIZE])


def test_places_reach_both_ends_and_follow_the_seed() -> None:
    def left(seed: int, name: str) -> int:
        return int(np.asarray(Crop("random", seed)(ramp(0), SIZE, name))[0, 0, 0])

    seen = {left(0, str(number)) for number in range(1000)}
    assert (min(seen), max(seen)) == (0, WIDTH - SIZE)
    assert left(0, "a") != left(1, "a")
