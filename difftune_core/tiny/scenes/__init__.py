"""A synthetic world of rendered scenes: coloured solids on a floor, with captions and their true control maps.

Every image is a function of (seed, split, index, world). World A is what the bundled base model learns; world B (other
solids, colours, textures, light, captions) is what a ControlNet is then trained on.
"""

from difftune_core.tiny.scenes.captions import VOCABULARY
from difftune_core.tiny.scenes.controls import CONDITIONS
from difftune_core.tiny.scenes.render import Picture, Scenes
from difftune_core.tiny.scenes.worlds import Split

__all__ = ["CONDITIONS", "VOCABULARY", "Picture", "Scenes", "Split"]
