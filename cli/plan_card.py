"""A plan as a person reads it."""

from __future__ import annotations

from typing import Any

from cli.card import length

Answer = dict[str, Any]
_GIB = 1 << 30
_WIDTH = 16


def plan_card(plan: Answer) -> str:
    """Return a few lines on what a job will need and take."""
    lines = {
        "tunes": f"{plan['config']['model']}, {plan['trained_parameters']:,} of {plan['parameters']:,} parameters",
        "planned for": _device(plan),
        "fits": {True: "yes", False: "perhaps: it is within the error of the plan", None: "not known"}[plan["fits"]],
        **_memory("device", plan["device_memory"]),
        **_memory("host", plan["host_memory"]),
        "storage": _storage(plan["storage"]),
        "time": _time(plan),
        "retention set": _retention(plan["retention_set"]),
    }
    chosen = [f"  {one['field']} = {_value(one['value'])}: {one['why']}" for one in plan["choices"]]
    shown = [f"{name:{_WIDTH}}{text}" for name, text in lines.items() if text]
    return "\n".join([*shown, *(["chosen:", *chosen] if chosen else []), *[f"note: {note}" for note in plan["notes"]]])


def size(nbytes: int) -> str:
    """Return a number of bytes in GiB, or MiB where it is small."""
    return f"{nbytes / _GIB:.1f} GiB" if nbytes >= _GIB / 2 else f"{nbytes / (1 << 20):.0f} MiB"


def _device(plan: Answer) -> str:
    device = plan["device"]
    if device is None:
        return "a CPU, for no worker is known"
    memory = device["memory_bytes"]
    return f"{device['name']}{'' if memory is None else f', {size(memory)}'}"


def _memory(place: str, memory: Answer | None) -> dict[str, str]:
    if memory is None:
        return {}
    parts = sorted(memory["parts"].items(), key=lambda part: -part[1])
    phases = ", ".join(f"{name.replace('_', ' ')} {size(nbytes)}" for name, nbytes in memory["phases"].items())
    most = f"{size(memory['peak_bytes'])} at most, while {str(memory['peak_phase']).replace('_', ' ')}"
    return {
        f"{place} memory": most,
        f"  {place} parts": ", ".join(f"{name.replace('_', ' ')} {size(nbytes)}" for name, nbytes in parts),
        f"  by phase{' ' if place == 'host' else ''}": phases,
    }


def _storage(storage: Answer) -> str:
    store = "not known yet" if storage["store_bytes"] is None else size(storage["store_bytes"])
    made, kept = storage["checkpoints"], storage["checkpoints_kept"]
    counts = "" if made is None else f" ({kept} of {made} checkpoints of {size(storage['checkpoint_bytes'])} kept)"
    return f"{store} in the store{counts}, {size(storage['disk_bytes'])} on the node's disk"


def _time(plan: Answer) -> str:
    known = {phase: seconds for phase, seconds in plan["seconds"].items() if seconds}
    unknown = [phase.replace("_", " ") for phase, seconds in plan["seconds"].items() if seconds is None]
    told = ", ".join(f"{phase.replace('_', ' ')} {length(seconds)}" for phase, seconds in known.items())
    rest = f"not known: {', '.join(unknown)}" if unknown else ""
    return "; ".join(part for part in (told, rest) if part)


def _retention(found: Answer) -> str:
    cost = found["image_steps"]
    costs = f": {found['images']} images of {found['num_inference_steps']} steps" if cost else ""
    return f"{found['state'].replace('_', ' ')}{costs}"


def _value(value: Any) -> str:
    return ", ".join(f"{k} {v}" for k, v in value.items()) if isinstance(value, dict) else str(value)
