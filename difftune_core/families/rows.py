"""The rows that a run trains on and those that judge it: two files, the splits of one, or a split drawn by the seed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import TypeVar

from difftune_core.data.controlled import check_rows
from difftune_core.data.copies import Key
from difftune_core.data.crops import Crop
from difftune_core.data.dataset import ImageFolder, open_captioned, open_dataset
from difftune_core.data.decoded import Decoded, Images, Rows, decoded, load_rows
from difftune_core.data.holdout import Split, chosen_split, split_by_class, split_rows
from difftune_core.data.pixels import Pixels
from difftune_core.families.preparation import Preparation
from difftune_core.hooks import TaskError

_MIN_HELD_OUT = 2
D = TypeVar("D", bound=Decoded)


def class_rows(preparation: Preparation, begun_with: str | None = None) -> tuple[Images, Images, tuple[str, ...]]:
    """Read training images, held-out images and class names.

    Args:
        preparation: of the run.
        begun_with: what checkpoints that are to fit call their training data.

    Raises:
        TaskError: `class_mismatch`, `too_few_images`, or the data set's own.
    """
    folders, size, config = preparation.folders, preparation.base.card.image_size, preparation.config
    train = open_dataset(folders.data, folders.data_options, validated=folders.data_validated)
    if folders.held_out is None:
        both = _looked_at(preparation, decoded(train, size, folders.cache))
        split = partial(split_by_class, both.labels, config.evaluation.holdout_fraction, config.seed)
        return *_cropped(preparation, *_split_off(both, begun_with, split)), train.class_names
    validation = open_dataset(*folders.held_out)
    _check_classes(train, validation)
    target, held_out = (decoded(dataset, size, folders.cache) for dataset in (train, validation))
    looked_at = _looked_at(preparation, target), _looked_at(preparation, held_out)
    return *_cropped(preparation, *looked_at), train.class_names


def captioned_rows(preparation: Preparation, begun_with: str | None = None) -> tuple[Rows, Rows]:
    """Read training rows and held-out rows.

    Args:
        preparation: of the run.
        begun_with: what checkpoints that are to fit call their training data.

    Raises:
        TaskError: `invalid_dataset`, `too_few_images`, or `control_mismatch` where one file has control images and the
            other none.
    """
    folders, size, config = preparation.folders, preparation.base.card.image_size, preparation.config
    whole = open_captioned(folders.data, folders.data_options, validated=folders.data_validated)
    train = _looked_at(preparation, load_rows(whole, size, folders.cache))
    if folders.held_out is not None:
        held_out = _looked_at(preparation, load_rows(open_captioned(*folders.held_out), size, folders.cache))
        if (train.controls is None) != (held_out.controls is None):
            message = "one file has control images and the other has none"
            raise TaskError("control_mismatch", message, "validation_file")
    else:
        check_rows(train, _MIN_HELD_OUT + 1, "the data set")
        asked = len(train), config.evaluation.holdout_fraction, config.seed, _MIN_HELD_OUT
        train, held_out = _split_off(train, begun_with, partial(split_rows, *asked))
    check_rows(held_out, _MIN_HELD_OUT, "the held-out set")
    return _cropped(preparation, train, held_out)


def _looked_at(preparation: Preparation, images: D) -> D:
    """Decode all images once, and control images: what cannot be is found now, not at the first evaluation."""
    for pixels in (images.pixels, images.controls if isinstance(images, Rows) else None):
        if isinstance(pixels, Pixels):
            pixels.look(preparation.progress("loading_model", len(pixels)))
    return images


def _cropped(preparation: Preparation, target: D, held_out: D) -> tuple[D, D]:
    """Make images square as the run says. What is held out, and what is a copy, goes by the middle of each image."""
    config = preparation.config
    crop = Crop(config.method.hyperparameters.crop, config.seed)
    return target.cropped(crop), held_out.cropped(crop.of_held_out)


def _split_off(both: D, begun_with: str | None, split: Callable[[Sequence[Key] | None], Split]) -> tuple[D, D]:
    kept, held_out = chosen_split(both, begun_with, split)
    return both.subset(kept, "kept"), both.subset(held_out, "held out")


def _check_classes(train: ImageFolder, validation: ImageFolder) -> None:
    if validation.class_names != train.class_names:
        differing = sorted(set(validation.class_names) ^ set(train.class_names))
        raise TaskError(
            "class_mismatch", f"the classes of the two files differ: {', '.join(differing)}", "validation_file"
        )
