"""Tables of the comparison's page: tests by pair, and in what the methods differ."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from difftune_core.config.recipe_rules import idle
from difftune_core.config.reports.comparison import MethodTold, PairTold
from difftune_core.drawing.numbers import Number, number

_TOLD_EXACTLY = 0.001  # smaller p values are shown as "< 0.001"


@dataclass(frozen=True)
class PairRow:
    """One pair of methods."""

    name: str
    detail: str
    seeds: int
    difference: str
    interval: str
    p_t: str
    p_sign_flip: str
    smallest_p: str
    is_clear: bool
    """The interval leaves out 0."""


def pair_groups(figures: Sequence[tuple[str, Sequence[PairTold]]]) -> list[tuple[str, list[PairRow]]]:
    """Rows by figure; figures without a pair are left out."""
    return [(label, [_row(pair, len(pairs)) for pair in pairs]) for label, pairs in figures if pairs]


def settings(methods: Sequence[MethodTold], *, controlled: bool) -> dict[str, Any]:
    """Hyper-parameters that are not the same for all methods, a column a method; `controlled`: of ControlNets."""
    flat = [
        {
            "method": method.type,
            "trainable_parameters": method.trainable_parameters,
            **_flat(method, controlled=controlled),
        }
        for method in methods
    ]
    keys = {key: None for entry in flat for key in entry}
    differing = [key for key in keys if len({_shown(entry.get(key)) for entry in flat}) > 1]
    same = [key for key in keys if key not in differing and any(entry.get(key) is not None for entry in flat)]
    told = ", ".join(f"{_label(key)} {_shown(flat[0].get(key))}" for key in same)
    rows = [(_label(key), [_shown(entry.get(key)) for entry in flat]) for key in differing]
    return {
        "names": [method.name for method in methods],
        "rows": rows or [("no setting differs", [""] * len(methods))],
        "note": f"The same for all: {told}." if told else "",
    }


def _row(pair: PairTold, num_pairs: int) -> PairRow:
    interval, smallest = pair.interval, pair.smallest_p
    detail = ""
    if pair.steps is not None and pair.target_images is not None:
        ends = [*zip(pair.steps, pair.target_images, strict=True)][::-1]
        detail = " against ".join(f"step {number(step)} ({images:,.0f} images)" for step, images in ends)
    return PairRow(
        name=f"{pair.second} \u2212 {pair.first}",
        detail=detail,
        seeds=pair.n,
        difference=_signed(pair.difference),
        interval=f"{_signed(interval[0])} to {_signed(interval[1])}" if interval else "\u2013",
        p_t=_p(pair.p_t_holm),
        p_sign_flip=_p(pair.p_sign_flip_holm),
        smallest_p=_p(None if smallest is None else min(1.0, num_pairs * smallest)),
        is_clear=interval is not None and (interval[0] > 0 or interval[1] < 0),
    )


def _signed(value: Number) -> str:
    sign = "+" if value > 0 else "\u2212" if value < 0 else ""
    return sign + number(abs(value), 3)


def _p(value: Number | None) -> str:
    if value is None:
        return "\u2013"
    return "< 0.001" if value < _TOLD_EXACTLY else f"{value:.3f}"


def _flat(method: MethodTold, *, controlled: bool) -> dict[str, Any]:
    found: dict[str, Any] = {}
    without_effect = idle(method.hyperparameters, controlled=controlled)
    for key, value in method.hyperparameters.items():
        if key in without_effect:
            continue
        if isinstance(value, dict):
            found |= {f"{key} {inner}": inside for inner, inside in value.items()}
        else:
            found[key] = value
    return found


def _label(key: str) -> str:
    return key.replace("_", " ")


def _shown(value: Any) -> str:
    if value is None:
        return "\u2013"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.6g}"
    return number(value) if isinstance(value, int) else str(value)
