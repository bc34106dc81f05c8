from __future__ import annotations

import gc
import json
import weakref
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers
from PIL import Image

from cli.demo.scenes import Scenes
from difftune_core.data.conditions import annotator, release
from difftune_core.data.conditions.networks import Depth, Segmentation, normals_of, to_unit_range, voc_palette
from difftune_core.hooks import TaskError

IMAGE = Scenes("a").image(3)[0]


@pytest.fixture(scope="module")
def depth_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A metric depth estimator of random weights."""
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("glpn")
    config = transformers.GLPNConfig(
        depths=[1, 1, 1, 1], hidden_sizes=[8, 8, 8, 8], num_attention_heads=[1, 1, 1, 1], decoder_hidden_size=8
    )
    transformers.GLPNForDepthEstimation(config).save_pretrained(folder)
    transformers.GLPNImageProcessorPil(size_divisor=32).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def segmentation_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("segformer")
    config = transformers.SegformerConfig(
        depths=[1, 1, 1, 1],
        hidden_sizes=[8, 8, 8, 8],
        num_attention_heads=[1, 1, 1, 1],
        decoder_hidden_size=8,
        num_labels=5,
    )
    transformers.SegformerForSemanticSegmentation(config).save_pretrained(folder)
    transformers.SegformerImageProcessorPil(size={"height": 64, "width": 64}).save_pretrained(folder)
    return folder


def test_depth_is_the_network_s_inverted_where_it_is_metric(depth_folder: Path) -> None:
    control = annotator("depth", depth_folder)(IMAGE)
    assert control.shape == IMAGE.shape
    assert control.dtype == np.uint8
    assert (control.min(), control.max()) == (0, 255)
    model = transformers.GLPNForDepthEstimation.from_pretrained(depth_folder).eval()
    with torch.inference_mode():
        depth = model(torch.from_numpy(IMAGE).permute(2, 0, 1)[None].float() / 255).predicted_depth[0].numpy()
    assert np.abs(to_unit_range(1 / depth) * 255 - control[..., 0]).max() <= 0.51
    assert np.array_equal(annotator("depth", depth_folder)(IMAGE), control)


def test_a_network_that_was_let_go_of_is_loaded_when_it_is_next_asked(depth_folder: Path) -> None:
    drawer = annotator("depth", depth_folder)
    assert isinstance(drawer, Depth)
    before = drawer(IMAGE)
    network = weakref.ref(drawer._network._model)
    release(drawer)
    release(annotator("edge"))  # which has none
    gc.collect()
    assert network() is None
    assert np.array_equal(drawer(IMAGE), before)


def test_depth_comes_back_at_the_picture_s_size(depth_folder: Path) -> None:
    assert annotator("depth", depth_folder)(IMAGE[:50, :61]).shape == (50, 61, 3)


def test_what_a_network_finds_is_brought_to_the_picture_s_size_pixel_centre_on_pixel_centre(
    depth_folder: Path, segmentation_folder: Path
) -> None:
    """As the pipelines do whose maps ControlNets were trained on: corners are not aligned."""
    image = IMAGE[:50, :61]

    def sized(found: torch.Tensor, mode: str) -> torch.Tensor:
        return torch.nn.functional.interpolate(found, image.shape[:2], mode=mode, align_corners=False)[0]

    def pixels(folder: Path) -> torch.Tensor:
        processor = transformers.AutoImageProcessor.from_pretrained(folder, backend="pil")
        return processor(Image.fromarray(image), return_tensors="pt")["pixel_values"]

    with torch.inference_mode():
        model = transformers.GLPNForDepthEstimation.from_pretrained(depth_folder).eval()
        depth = model(pixel_values=pixels(depth_folder)).predicted_depth
        classifier = transformers.SegformerForSemanticSegmentation.from_pretrained(segmentation_folder).eval()
        scores = classifier(pixel_values=pixels(segmentation_folder)).logits
    expected = to_unit_range(sized(1 / depth[:, None], "bicubic")[0].numpy())
    assert Depth(depth_folder).inverse_depth(image) == pytest.approx(expected, abs=1e-6)
    classes = Segmentation(segmentation_folder).classes(image)
    assert np.array_equal(classes, sized(scores, "bilinear").argmax(dim=0).numpy())


def test_normals_follow_the_depth(depth_folder: Path) -> None:
    control = annotator("normal", depth_folder)(IMAGE)
    assert np.array_equal(control, normals_of(Depth(depth_folder).inverse_depth(IMAGE)))
    lengths = np.linalg.norm(control.astype(float) / 127.5 - 1, axis=2)
    assert np.abs(lengths - 1).max() < 0.01


def test_normals_of_planes() -> None:
    rise = np.linspace(0, 1, 33, dtype=np.float32)
    flat = normals_of(np.zeros((8, 9), np.float32))
    assert (flat == (128, 128, 255)).all()
    rightwards = normals_of(np.tile(rise, (33, 1)))[16, 16].astype(float) / 127.5 - 1
    floor = normals_of(np.tile(rise[:, None], (1, 33)))[16, 16].astype(float) / 127.5 - 1
    assert rightwards == pytest.approx([-0.718, 0, 0.696], abs=0.01)  # 33 / 32 of 45 degrees: nearer on the right
    assert floor == pytest.approx([0, 0.718, 0.696], abs=0.01)  # a floor faces up


def test_segmentation_colours_the_likeliest_class(segmentation_folder: Path) -> None:
    control = annotator("segmentation", segmentation_folder)(IMAGE)
    assert control.shape == IMAGE.shape
    seen = {tuple(colour) for colour in control.reshape(-1, 3).tolist()}
    assert seen <= {tuple(colour) for colour in voc_palette(5).tolist()}
    classes = Segmentation(segmentation_folder).classes(IMAGE)
    assert np.array_equal(voc_palette(5)[classes], control)


def test_a_palette_beside_the_model_is_used(segmentation_folder: Path) -> None:
    path = segmentation_folder / "palette.json"
    colours = [[10 * i, 20, 30] for i in range(5)]
    path.write_text(json.dumps(colours))
    assert Segmentation(segmentation_folder).palette.tolist() == colours
    path.write_text(json.dumps(colours[:4]))
    with pytest.raises(TaskError, match="5 colours"):
        Segmentation(segmentation_folder)
    path.unlink()


def test_the_first_colours_of_pascal_voc() -> None:
    assert voc_palette(5).tolist() == [[0, 0, 0], [128, 0, 0], [0, 128, 0], [128, 128, 0], [0, 0, 128]]
    assert len({tuple(colour) for colour in voc_palette(256).tolist()}) == 256


def test_what_is_missing_or_of_another_kind_is_named(
    tmp_path: Path, depth_folder: Path, segmentation_folder: Path
) -> None:
    with pytest.raises(TaskError, match=r"config\.json, preprocessor_config\.json") as caught:
        annotator("depth", tmp_path)
    assert (caught.value.code, caught.value.param) == ("annotator_not_found", "annotator")
    with pytest.raises(TaskError) as caught:
        annotator("segmentation", depth_folder)
    assert caught.value.code == "model_mismatch"
    for name in ("config.json", "preprocessor_config.json"):
        (tmp_path / name).write_bytes((segmentation_folder / name).read_bytes())
    (tmp_path / "pytorch_model.bin").write_bytes(b"never opened")
    with pytest.raises(TaskError, match="weights as safetensors"):
        annotator("segmentation", tmp_path)
