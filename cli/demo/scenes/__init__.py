"""A synthetic world of rendered scenes: coloured solids on a floor, with captions and their true control maps.

Every image is a function of (seed, split, index, world). World A is what the bundled base model learns; world B (other
solids, colours, textures, light, captions) is what a ControlNet is then trained on.
"""

from cli.demo.scenes.captions import VOCABULARY
from cli.demo.scenes.controls import CONDITIONS
from cli.demo.scenes.render import Picture, Scenes
from cli.demo.scenes.worlds import Split

__all__ = ["CONDITIONS", "VOCABULARY", "Picture", "Scenes", "Split"]
