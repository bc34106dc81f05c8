"""Glyphs of many scripts, drawn from the TrueType fonts of the system.

The data sets made from them are a function of the installed fonts; the bundled weights were made with Debian's
packages fonts-dejavu, fonts-liberation, fonts-freefont-ttf and fonts-noto-core.
"""

import shutil
import subprocess
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

CANVAS = 64
"""Side of a glyph's mask in pixels: twice the worlds' image side, so that one halving is the antialiasing."""

_FONT_PIXELS = 60
_LONGEST_INK = 60
_UNASSIGNED = "\U0010fffd"
_PACKAGES = ("fonts-dejavu", "fonts-liberation", "fonts-freefont-ttf", "fonts-noto-core")
_FOLDERS = (Path("/usr/share/fonts"), Path("/usr/local/share/fonts"), Path("~/.local/share/fonts"), Path("~/.fonts"))

SCRIPTS: dict[str, str] = {
    "latin": "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz",
    "digits": "0123456789",
    "greek": "ΓΔΘΛΞΠΣΦΨΩαβγδεζηθλμξπστφχψω",
    "cyrillic": "БДЖЗИЛЦЧШЩЪЫЬЭЮЯбвджфя",
    "hebrew": "אבגדהוזחטיכלמנסעפצקרשת",
    "arabic": "ابجدرسصطعفقكلمنهوي",
    "devanagari": "अआइउएकखगघचछजझटठडढणतथदधनपफबभमयरलवशषसह",
    "armenian": "ԱԲԳԴԵԶԷԸԹԺԻԼԽԾԿՀՁՂՃՄ",
    "georgian": "აბგდევზთიკლმნოპჟრსტუ",
    "thai": "กขคงจฉชซญดตถทธนบปผฝพ",
    "ethiopic": "ሀለሐመሠረሰሸቀበተነአከወዘየደገጠ",
    "tamil": "அஆஇஉஎஐஒகஙசஞடணதநபமயரலவழ",
    "runic": "ᚠᚢᚦᚨᚱᚲᚷᚹᚺᛃᛇᛈᛉᛏᛒᛖᛗᛜᛞᛟ",
    "cherokee": "ᎠᎡᎢᎣᎤᎦᎧᎨᎭᎮᎰᎱᎳᎵᎹᎺᎾᏂᏃᏇ",
    "symbols": "!?#&@$%+=<>{}[]*/~§¶€£∞∑∫√←↑→↓■●▲◆★☆☀☂♠♥♪",
}
"""Script names and their letters; one class of the broad world for each letter."""


def find_fonts() -> list[Path]:
    """TrueType and OpenType files known to fontconfig, or else under the usual folders, in order of name.

    Raises:
        FileNotFoundError: no font is installed.
    """
    tool = shutil.which("fc-list")
    if tool:
        listed = subprocess.run([tool, "--format", "%{file}\n"], capture_output=True, text=True, check=True)  # noqa: S603 - fixed arguments
        files = {Path(line) for line in listed.stdout.splitlines() if line}
    else:
        files = {file for folder in _FOLDERS for file in folder.expanduser().rglob("*")}
    fonts = sorted((f for f in files if f.suffix.lower() in {".ttf", ".otf"}), key=lambda f: (f.name, str(f)))
    if not fonts:
        raise FileNotFoundError(f"no TrueType font is installed; on Debian: apt-get install {' '.join(_PACKAGES)}")
    return fonts


@lru_cache(maxsize=4096)
def _open(file: Path, pixels: int) -> ImageFont.FreeTypeFont:
    # The basic layout engine gives the same glyph whether or not Pillow was built with raqm.
    return ImageFont.truetype(str(file), pixels, layout_engine=ImageFont.Layout.BASIC)


def _draw(file: Path, pixels: int, letter: str) -> Image.Image:
    font = _open(file, pixels)
    left, top, right, bottom = font.getbbox(letter)
    image = Image.new("L", (max(1, int(right - left)) + 4, max(1, int(bottom - top)) + 4))
    ImageDraw.Draw(image).text((2 - left, 2 - top), letter, fill=255, font=font)
    return image


@lru_cache(maxsize=1 << 16)
def _has(file: Path, letter: str) -> bool:
    image = _draw(file, 16, letter)
    return image.getbbox() is not None and image.tobytes() != _draw(file, 16, _UNASSIGNED).tobytes()


def _mask(file: Path, letter: str) -> Image.Image:
    """The letter at its natural size, its ink centred on the canvas and made smaller only where it would not fit."""
    drawn = _draw(file, _FONT_PIXELS, letter)
    ink = drawn.crop(drawn.getbbox())
    longest = max(ink.size)
    if longest > _LONGEST_INK:
        width, height = (max(1, round(side * _LONGEST_INK / longest)) for side in ink.size)
        ink = ink.resize((width, height), Image.Resampling.BOX)
    mask = Image.new("L", (CANVAS, CANVAS))
    mask.paste(ink, ((CANVAS - ink.width) // 2, (CANVAS - ink.height) // 2))
    return mask


class GlyphBank:
    """Masks of letters (64 x 64, uint8, ink is 255), each drawn once and kept.

    Args:
        fonts: font files to draw from; by default all that the system has.
    """

    def __init__(self, fonts: Sequence[Path] | None = None) -> None:
        self._fonts = list(fonts) if fonts is not None else find_fonts()
        self._by_script: dict[str, list[Path]] = {}
        self._masks: dict[tuple[Path, str], Image.Image | None] = {}

    def fonts(self, script: str) -> list[Path]:
        """Fonts that have the first, the middle and the last letter of a script.

        Raises:
            FileNotFoundError: no installed font has them.
        """
        if script not in self._by_script:
            letters = SCRIPTS[script]
            probes = (letters[0], letters[len(letters) // 2], letters[-1])
            found = [file for file in self._fonts if all(_has(file, probe) for probe in probes)]
            if not found:
                raise FileNotFoundError(
                    f"no font for script {script!r}; on Debian: apt-get install {' '.join(_PACKAGES)}"
                )
            self._by_script[script] = found
        return self._by_script[script]

    def mask(self, script: str, letter: str, font: int) -> Image.Image:
        """The letter in the first font at or after index `font` (modulo their number) that has it."""
        fonts = self.fonts(script)
        for step in range(len(fonts)):
            key = (fonts[(font + step) % len(fonts)], letter)
            if key not in self._masks:
                self._masks[key] = _mask(*key) if _has(*key) else None
            mask = self._masks[key]
            if mask is not None:
                return mask
        raise FileNotFoundError(f"no font for letter {letter!r} of script {script!r}")
