"""Captions of scenes: every solid that can be seen, from left to right, and the floor."""

from __future__ import annotations

from collections.abc import Sequence

from cli.demo.scenes.solids import SOLIDS
from cli.demo.scenes.worlds import WORLDS, Placed, Scene

_NUMBERS = {1: "one", 2: "two", 3: "three"}

VOCABULARY: tuple[str, ...] = tuple(
    sorted(
        {"a", "an", "and", "on", "ground", "floor", "toy", "toys", ",", ":"}
        | set(_NUMBERS.values())
        | {*SOLIDS, "plain", "striped", "checkered"}
        | {word for world in WORLDS.values() for word in (*world.colours, *world.floors)}
    )
)
"""Every token of a caption of either world: words, the comma and the colon."""


def caption(scene: Scene, visible: Sequence[int]) -> str:
    """The caption that names the solids numbered `visible`.

    World A: "a red sphere and a blue box on a grey floor". World B: "two toys on sandy ground: a striped orange cone,
    a plain teal torus".
    """
    seen = [scene.solids[number] for number in visible]
    if scene.world == "a":
        named = [_with_article(f"{solid.colour_name} {solid.kind}") for solid in seen]
        return f"{_joined(named)} on {_with_article(scene.floor_name)} floor"
    toys = f"{_NUMBERS[len(seen)]} {'toy' if len(seen) == 1 else 'toys'}"
    return f"{toys} on {scene.floor_name} ground: {', '.join(_with_article(_described(solid)) for solid in seen)}"


def tokens(text: str) -> list[str]:
    """A caption's tokens, each in `VOCABULARY`."""
    return text.replace(",", " ,").replace(":", " :").split()


def _described(solid: Placed) -> str:
    return f"{solid.texture} {solid.colour_name} {solid.kind}"


def _with_article(words: str) -> str:
    return f"{'an' if words[0] in 'aeiou' else 'a'} {words}"


def _joined(names: list[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
