"""Names in a zip file: UTF-8 where it says so or where they are it, else the encoding that fits all of them.

Zip files that say nothing are by specification in cp437; in fact they are in whatever the writer's system used.
"""

from __future__ import annotations

import struct
import unicodedata
import zipfile
import zlib
from collections.abc import Sequence

_UTF8_FLAG = 0x800
_UNICODE_PATH = 0x7075  # extra field of Info-ZIP: version, crc32 of the raw name, the name in UTF-8
_EXTRA_HEADER, _UNICODE_HEADER = struct.Struct("<2H"), struct.Struct("<BL")
_JAPANESE = ("CJK UNIFIED", "CJK COMPATIBILITY", "HIRAGANA", "KATAKANA", "IDEOGRAPHIC", "FULLWIDTH")
_HIGH = 0x80
_COMMON_LEADS, _COMMON_TRAILS = range(0xB0, 0xF8), range(0xA1, 0xFF)
"""Bytes of the characters in GB2312, the everyday part of GBK: as cp437 hardly ever letters."""
_KOREAN = frozenset("이다는의에을가고하지은로기사리인도한어아자정나라대해수일서그시스과구주부보전장제")
"""The most common syllables: about two fifths of Korean text, one in fifty of what Chinese read as Korean becomes."""
_FEWEST_KOREAN, _LEAST_KOREAN = 2, 0.2


def unsaid_name(info: zipfile.ZipInfo) -> bytes | None:
    """The name's bytes where the entry does not say their encoding."""
    return _raw(info) if _said(info) is None else None


def encoding_of(names: Sequence[bytes]) -> str:
    """The one encoding of all names that do not say theirs; those in ASCII need not be among them."""
    return next(name for name in ("utf-8", "cp932", "cp949", "gbk", "cp437") if _fits(names, name))


def name_of(info: zipfile.ZipInfo, encoding: str) -> str:
    """The name as its writer meant it, in `encoding` where it does not say its own."""
    said = _said(info)
    return _raw(info).decode(encoding) if said is None else said


def _raw(info: zipfile.ZipInfo) -> bytes:
    return info.orig_filename.encode("cp437")  # how zipfile decodes names without the flag


def _said(info: zipfile.ZipInfo) -> str | None:
    """The name where the entry says that it is UTF-8, by its flag or by an extra field."""
    if info.flag_bits & _UTF8_FLAG:
        return info.orig_filename
    raw, extra, at = _raw(info), info.extra, 0
    while at + _EXTRA_HEADER.size <= len(extra):
        kind, length = _EXTRA_HEADER.unpack_from(extra, at)
        body = extra[at + _EXTRA_HEADER.size : at + _EXTRA_HEADER.size + length]
        if kind == _UNICODE_PATH and len(body) > _UNICODE_HEADER.size:
            _, crc = _UNICODE_HEADER.unpack_from(body)
            return body[_UNICODE_HEADER.size :].decode("utf-8", "surrogateescape") if crc == zlib.crc32(raw) else None
        at += _EXTRA_HEADER.size + length
    return None


def _fits(names: Sequence[bytes], encoding: str) -> bool:
    try:
        texts = [name.decode(encoding) for name in names]
    except UnicodeDecodeError:
        return False
    if encoding == "cp932":
        return _are_japanese(texts, [name.decode("cp437") for name in names])
    if encoding == "cp949":
        return _are_korean(texts)
    return encoding != "gbk" or _are_chinese(texts)


def _are_korean(texts: Sequence[str]) -> bool:
    """Return whether text in cp949 is Korean.

    Every such name is valid GBK, too, where its syllables are characters at random. One or two
    syllables can be either; they are taken for Chinese.
    """
    foreign = {character for text in texts for character in text if not character.isascii()}
    if not all(unicodedata.name(character, "").startswith("HANGUL SYLLABLE") for character in foreign):
        return False
    return len(foreign & _KOREAN) >= max(_FEWEST_KOREAN, _LEAST_KOREAN * len(foreign))


def _are_chinese(texts: Sequence[str]) -> bool:
    """Return whether text in GBK is Chinese, and not valid by chance: at least half of its characters are common."""
    foreign = [character.encode("gbk") for text in texts for character in text if not character.isascii()]
    common = [code for code in foreign if code[0] in _COMMON_LEADS and code[-1] in _COMMON_TRAILS]
    return bool(foreign) and 2 * len(common) >= len(foreign)


def _are_japanese(texts: Sequence[str], as_western: Sequence[str]) -> bool:
    """Return whether text in cp932 is Japanese, and no Western name of cp437 that happens to be valid.

    There every accented letter makes a character with the plain letter behind it. Japanese read as Western has signs
    and lines among its letters, or most of its characters have two high bytes.
    """
    foreign = [character for text in texts for character in text if not character.isascii()]
    if not all(unicodedata.name(character, "").startswith(_JAPANESE) for character in foreign):
        return False
    if any(not character.isascii() and not character.isalpha() for text in as_western for character in text):
        return True
    return 2 * sum(character.encode("cp932")[-1] >= _HIGH for character in foreign) >= len(foreign)
