"""Names and shapes of the published ControlNet, laid out as the original code builds its network.

Channels 320 x (1, 2, 4, 4), two residual blocks a level, attention on all levels but the last.
"""

from __future__ import annotations

from itertools import pairwise

_LEVELS = (1, 2, 4, 4)
_HINTS = (3, 16, 16, 32, 32, 96, 96, 256, 320)


class Shapes(dict[str, list[int]]):
    """Weight by weight."""

    def __init__(self, text_width: int, *, linear: bool) -> None:
        super().__init__()
        self.text_width, self.linear = text_width, linear

    def put(self, name: str, *weight: int, bias: bool = True) -> None:
        self[f"control_model.{name}.weight"] = list(weight)
        if bias:
            self[f"control_model.{name}.bias"] = [weight[0]]

    def residual(self, name: str, entering: int, leaving: int) -> None:
        self.put(f"{name}.in_layers.0", entering)
        self.put(f"{name}.in_layers.2", leaving, entering, 3, 3)
        self.put(f"{name}.emb_layers.1", leaving, 1280)
        self.put(f"{name}.out_layers.0", leaving)
        self.put(f"{name}.out_layers.3", leaving, leaving, 3, 3)
        if entering != leaving:
            self.put(f"{name}.skip_connection", leaving, entering, 1, 1)

    def transformer(self, name: str, width: int) -> None:
        projection = (width, width) if self.linear else (width, width, 1, 1)
        block = f"{name}.transformer_blocks.0"
        self.put(f"{name}.norm", width)
        self.put(f"{name}.proj_in", *projection)
        self.put(f"{name}.proj_out", *projection)
        for attention, states in (("attn1", width), ("attn2", self.text_width)):
            self.put(f"{block}.{attention}.to_q", width, width, bias=False)
            self.put(f"{block}.{attention}.to_k", width, states, bias=False)
            self.put(f"{block}.{attention}.to_v", width, states, bias=False)
            self.put(f"{block}.{attention}.to_out.0", width, width)
        self.put(f"{block}.ff.net.0.proj", 8 * width, width)
        self.put(f"{block}.ff.net.2", width, 4 * width)
        for number in (1, 2, 3):
            self.put(f"{block}.norm{number}", width)

    def encoder(self) -> int:
        """All parts of `input_blocks` with their zero convolutions; channels at their end."""
        width, part = 320, 1
        for level, factor in enumerate(_LEVELS):
            is_last = level == len(_LEVELS) - 1
            for _ in range(2):
                self.residual(f"input_blocks.{part}.0", width, 320 * factor)
                width = 320 * factor
                if not is_last:
                    self.transformer(f"input_blocks.{part}.1", width)
                self.put(f"zero_convs.{part}.0", width, width, 1, 1)
                part += 1
            if not is_last:
                self.put(f"input_blocks.{part}.0.op", width, width, 3, 3)
                self.put(f"zero_convs.{part}.0", width, width, 1, 1)
                part += 1
        return width


def published_shapes(text_width: int, *, linear: bool) -> dict[str, list[int]]:
    """Of Stable Diffusion 1 (768, convolutions as projections) and 2 (1024, linear)."""
    shapes = Shapes(text_width, linear=linear)
    shapes.put("time_embed.0", 1280, 320)
    shapes.put("time_embed.2", 1280, 1280)
    shapes.put("input_blocks.0.0", 320, 4, 3, 3)
    shapes.put("zero_convs.0.0", 320, 320, 1, 1)
    for number, (entering, leaving) in enumerate(pairwise(_HINTS)):
        shapes.put(f"input_hint_block.{2 * number}", leaving, entering, 3, 3)
    width = shapes.encoder()
    shapes.residual("middle_block.0", width, width)
    shapes.transformer("middle_block.1", width)
    shapes.residual("middle_block.2", width, width)
    shapes.put("middle_block_out.0", width, width, 1, 1)
    return dict(shapes)
