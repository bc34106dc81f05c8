"""What a caption is, wherever it was written: text with something to see in it."""

from __future__ import annotations

import codecs
import unicodedata
from typing import Any

from difftune_core.data.members import RefusedError

_MAX_CHARS = 10_000
_BOMS = ((codecs.BOM_UTF8, "utf-8"), (codecs.BOM_UTF16_LE, "utf-16-le"), (codecs.BOM_UTF16_BE, "utf-16-be"))
_INVISIBLE_CATEGORIES = frozenset({"Cc", "Cf", "Cn", "Co", "Cs", "Zl", "Zp", "Zs", "Mn", "Me"})
_INVISIBLE = frozenset("\u115f\u1160\u2800\u3164\uffa0")  # letters and a pattern that show nothing
_EDGES = "\ufeff\u200b\u2060"  # marks of byte order and of places to break: at the ends they are left over


def decoded(data: bytes) -> str:
    """The text of a file: UTF-8, or what its byte order mark says; the mark is no part of it.

    Raises:
        RefusedError: `missing_caption` where it is neither, or holds NUL, as UTF-16 without a mark does.
    """
    mark, encoding = next(((bom, name) for bom, name in _BOMS if data.startswith(bom)), (b"", "utf-8"))
    try:
        text = data.removeprefix(mark).decode(encoding)
    except UnicodeDecodeError:
        raise RefusedError("missing_caption", "it is not UTF-8 text; save it as UTF-8") from None
    if "\0" in text:
        raise RefusedError("missing_caption", "it holds NUL: if it is UTF-16 without a mark, save it as UTF-8")
    return text


def caption(text: Any, image: str) -> str:
    """The caption on one line, without what is left over at its ends.

    Args:
        text: as it was read.
        image: names the image to people.

    Raises:
        RefusedError: `missing_caption` where there is no text in which anything is to be seen, `caption_too_long`.
    """
    if text is None:
        raise RefusedError("missing_caption", f"{image} has no caption")
    if not isinstance(text, str):
        raise RefusedError("missing_caption", f"the caption of {image} is no text")
    if len(text) > _MAX_CHARS:
        raise RefusedError("caption_too_long", f"the caption of {image} has over {_MAX_CHARS} characters")
    if "\0" in text:
        raise RefusedError("missing_caption", f"the caption of {image} holds NUL")
    if not any(is_visible(character) for character in text):
        raise RefusedError(
            "missing_caption", f"{image} has no caption" + (": nothing in it is visible" if text else "")
        )
    return " ".join(text.strip().strip(_EDGES).split())


def is_visible(character: str) -> bool:
    """Return whether a character shows anything by itself."""
    return unicodedata.category(character) not in _INVISIBLE_CATEGORIES and character not in _INVISIBLE
