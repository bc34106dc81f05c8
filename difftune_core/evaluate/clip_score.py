"""CLIP score: how well images fit their captions (Hessel et al. 2021), by a CLIP model from a folder of transformers.

Of an image and its caption, 100 max(cos(image, caption), 0); the mean over images. The paper's factor is 2.5, that of
torchmetrics is 100, in which most results are told, and so are these. Captions are taken as they are, as torchmetrics
does; the paper's code puts "A photo depicts" before them. Each image's score is cut at 0, as in the paper; torchmetrics
cuts the mean.
Shapes: n images, h w pixels, d features.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Float64, UInt8
from PIL import Image
from torch import Tensor
from torch.nn.functional import normalize

from difftune_core.evaluate.pretrained import load_pretrained
from difftune_core.files import folder_digest
from difftune_core.runtime.foreign import reading

SCALE = 100.0
_BATCH = 32


class ClipScorer:
    """A frozen CLIP model with its tokenizer and its image processor, which resizes and crops with PIL."""

    def __init__(self, folder: Path, device: torch.device | str = "cpu") -> None:
        """Load the model.

        Raises:
            TaskError: `model_mismatch`, `not_finite`.
        """
        import transformers

        library: Any = transformers  # untyped in parts
        self.id = folder.name
        self.digest = folder_digest(folder)
        self._folder, self._device = folder, torch.device(device)
        with reading("the CLIP model", "evaluation.clip_model"):
            self._tokenizer = library.CLIPTokenizer.from_pretrained(folder, local_files_only=True)
            self._processor = library.CLIPImageProcessorPil.from_pretrained(folder, local_files_only=True)
        self.length = int(self._model.config.text_config.max_position_embeddings)
        """Tokens of a caption, at most; the ends of longer ones are not seen."""

    @cached_property
    def _model(self) -> Any:
        with reading("the CLIP model", "evaluation.clip_model"):
            model = load_pretrained("CLIPModel", self._folder)
        return model.to(self._device)

    def release(self) -> None:
        """Let go of the model; it is loaded again when it is next asked."""
        vars(self).pop("_model", None)

    def num_truncated(self, captions: Sequence[str]) -> int:
        """Return how many captions have more tokens than the model takes."""
        counts = [len(self._tokenizer(text, truncation=False, verbose=False).input_ids) for text in captions]
        return sum(count > self.length for count in counts)

    def __call__(self, images: UInt8[np.ndarray, "n h w 3"], captions: Sequence[str]) -> Float64[np.ndarray, " n"]:
        """The score of each image with its caption, in [0, 100]."""
        starts = range(0, len(images), _BATCH)
        parts = [self._cosines(images[i : i + _BATCH], captions[i : i + _BATCH]) for i in starts]
        scores: Float64[np.ndarray, " n"] = SCALE * np.concatenate(parts).clip(min=0)
        return scores

    @torch.inference_mode()
    def _cosines(self, images: UInt8[np.ndarray, "n h w 3"], captions: Sequence[str]) -> Float64[np.ndarray, " n"]:
        seen, read = self._image_features(images), self._text_features(captions)
        cosines: Float64[np.ndarray, " n"] = (seen * read).sum(1).double().cpu().numpy()
        return cosines

    def _image_features(self, images: UInt8[np.ndarray, "n h w 3"]) -> Float[Tensor, "n d"]:
        pixels = self._processor([Image.fromarray(image) for image in images], return_tensors="pt")["pixel_values"]
        found = self._model.get_image_features(pixel_values=pixels.to(self._device))
        return normalize(found.pooler_output)

    def _text_features(self, captions: Sequence[str]) -> Float[Tensor, "n d"]:
        cut = {"padding": True, "truncation": True, "max_length": self.length}
        tokens = self._tokenizer(list(captions), return_tensors="pt", **cut).to(self._device)
        found = self._model.get_text_features(input_ids=tokens.input_ids, attention_mask=tokens.attention_mask)
        return normalize(found.pooler_output)
