"""CLIP's tokenizer over the vocabulary of the scenes: one token a word, pieces for words that it does not know."""

from __future__ import annotations

import string
from pathlib import Path
from typing import Any

from cli.demo.scenes import VOCABULARY

LENGTH = 24
"""Tokens of a prompt with its two ends; the longest caption has 22."""
_ENDS = ["<|startoftext|>", "<|endoftext|>"]
_SUFFIX = "</w>"  # CLIP's mark of a word's end


def write_tokenizer(folder: Path, length: int = LENGTH) -> Any:
    """Write the library's files into `folder`, byte-pair merges learned from the vocabulary; the loaded tokenizer."""
    from tokenizers import Tokenizer
    from tokenizers.models import BPE
    from tokenizers.trainers import BpeTrainer
    from transformers import CLIPTokenizer

    letters = sorted(set("".join(VOCABULARY)) | set(string.ascii_lowercase))
    trainer = BpeTrainer(
        special_tokens=[*_ENDS, *letters, *(f"{letter}{_SUFFIX}" for letter in letters)],
        end_of_word_suffix=_SUFFIX,
        show_progress=False,
    )
    learned = Tokenizer(BPE(end_of_word_suffix=_SUFFIX))
    learned.train_from_iterator(VOCABULARY, trainer)
    folder.mkdir(parents=True, exist_ok=True)
    learned.model.save(str(folder))
    tokenizers: Any = CLIPTokenizer  # untyped in the library
    tokenizers.from_pretrained(folder, model_max_length=length).save_pretrained(folder)
    return tokenizers.from_pretrained(folder)
