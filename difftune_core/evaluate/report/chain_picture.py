"""The images of a chain of forgetting as one labelled picture."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from PIL import Image, ImageDraw, ImageFont

_CELL = 64  # pixels of an image in the picture, at least
_FONT = 15
_PAD = 16
_INK, _SOFT, _PAPER = (28, 30, 33), (100, 106, 115), (255, 255, 255)


def chain_picture(grids: Mapping[str, Image.Image], shares: Sequence[str], class_names: Sequence[str]) -> Image.Image:
    """Grids side by side on white; each row is named by its share, each column by its class.

    Args:
        grids: title to images in as many rows as there are shares, one pixel between two.
        shares: names of the rows.
        class_names: names of the columns; what does not fit a column is cut.
    """
    blocks = [_block(title, grid, shares, class_names) for title, grid in grids.items()]
    width = sum(block.width for block in blocks) + _PAD * (len(blocks) + 1)
    picture = Image.new("RGB", (width, max(block.height for block in blocks) + 2 * _PAD), _PAPER)
    left = _PAD
    for block in blocks:
        picture.paste(block, (left, _PAD))
        left += block.width + _PAD
    return picture


def _block(title: str, grid: Image.Image, shares: Sequence[str], class_names: Sequence[str]) -> Image.Image:
    side = (grid.height + 1) // len(shares) - 1
    scale = max(1, round(_CELL / side))
    pitch = (side + 1) * scale
    font = ImageFont.load_default(_FONT)
    margin = max(round(font.getlength(share)) for share in shares) + _PAD // 2
    top = 2 * _FONT + _PAD
    block = Image.new("RGB", (margin + grid.width * scale, top + grid.height * scale), _PAPER)
    large = grid.convert("RGBA").resize((grid.width * scale, grid.height * scale), Image.Resampling.NEAREST)
    block.paste(large, (margin, top), large)
    draw = ImageDraw.Draw(block)
    draw.text((margin, 0), title, fill=_INK, font=font)
    for row, share in enumerate(shares):
        place = (margin - _PAD // 2, top + row * pitch + side * scale // 2)
        draw.text(place, share, fill=_SOFT, font=font, anchor="rm")
    for column, name in enumerate(class_names[: (grid.width + 1) // (side + 1)]):
        place = (margin + column * pitch + side * scale // 2, top - _PAD // 4)
        draw.text(place, _cut(name, font, pitch), fill=_SOFT, font=font, anchor="mb")
    return block


def _cut(text: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont, width: int) -> str:
    if font.getlength(text) <= width:
        return text
    while text and font.getlength(f"{text}...") > width:
        text = text[:-1]
    return f"{text}..."
