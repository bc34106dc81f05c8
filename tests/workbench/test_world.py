import numpy as np
import pytest

from workbench.tiny.glyphs import SCRIPTS, GlyphBank
from workbench.tiny.world import SHAPES, Split, World

pytestmark = pytest.mark.fonts


@pytest.fixture(scope="module")
def world() -> World:
    return World(7)


def test_an_image_depends_on_seed_split_and_index_alone(world: World) -> None:
    images, labels = world.source_batch(0, 20)
    again, label = World(7).render_source(13)
    assert np.array_equal(again, images[13])
    assert label == labels[13]
    assert not np.array_equal(World(8).source_batch(0, 20)[0], images)
    assert not np.array_equal(World(7, Split.HELD_OUT).source_batch(0, 20)[0], images)
    broad, classes = world.broad_batch(5, 20)
    same, kind = World(7).render_broad(11)
    assert np.array_equal(same, broad[6])
    assert kind == classes[6]


def test_shapes_come_in_turn_and_in_greys(world: World) -> None:
    images, labels = zip(*(world.render_shape(index) for index in range(12)), strict=True)
    assert labels == (0, 1, 2) * 4 == tuple(range(len(SHAPES))) * 4
    stacked = np.stack(images)
    assert stacked.shape == (12, 32, 32, 3)
    assert stacked.dtype == np.uint8
    assert np.array_equal(stacked[..., 0], stacked[..., 2])
    assert len({image.tobytes() for image in images}) == 12
    assert not np.array_equal(World(7, Split.HELD_OUT).render_shape(4)[0], images[4])


def test_source_images_are_light_letters_on_dark(world: World) -> None:
    images, labels = world.source_batch(0, 300)
    assert images.shape == (300, 32, 32, 3)
    assert images.dtype == np.uint8
    assert np.array_equal(images[..., 0], images[..., 1])
    assert np.array_equal(images[..., 0], images[..., 2])
    assert np.median(images, axis=(1, 2, 3)).mean() < 60
    assert images.max(axis=(1, 2, 3)).mean() > 140
    assert set(labels) <= set(range(52))
    assert len(set(labels)) > 45


def test_about_half_of_the_source_images_come_from_eight_by_eight(world: World) -> None:
    images, _ = world.source_batch(0, 400)
    # Bicubic images have almost no energy at the highest frequencies.
    spectrum = np.abs(np.fft.fft2(images[..., 0].astype(float), axes=(1, 2)))[:, 12:21, :].mean(axis=(1, 2))
    total = np.abs(np.fft.fft2(images[..., 0].astype(float), axes=(1, 2))).mean(axis=(1, 2))
    assert 0.3 < (spectrum / total < 0.12).mean() < 0.7


def test_a_label_can_be_asked_for(world: World) -> None:
    image, label = world.render_source(3, label=10)
    assert label == 10
    assert image.std() > 5


def test_broad_images_have_every_script_and_shape_and_colours_too(world: World) -> None:
    images, labels = world.broad_batch(0, 800)
    assert images.shape == (800, 32, 32, 3)
    coloured = (images.max(axis=3).astype(int) - images.min(axis=3)).max(axis=(1, 2)) > 40
    assert 0.2 < coloured.mean() < 0.6
    edges = np.cumsum([0, *map(len, SCRIPTS.values()), 1, 1, 1])
    counts, _ = np.histogram(labels, bins=edges)
    assert (counts > 0).all()


def test_the_bank_never_draws_a_font_s_sign_for_missing_letters() -> None:
    bank = GlyphBank()
    for script in ("latin", "digits"):
        masks = {bank.mask(script, letter, 0).tobytes() for letter in SCRIPTS[script]}
        assert len(masks) == len(SCRIPTS[script])
