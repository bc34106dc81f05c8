"""What an exported DiT says of itself: names of its classes that `DiTPipeline` keeps whole, and a README."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any
from urllib.parse import quote

from difftune_core.families.export import CARD, licence_of


def pipeline_name(name: str) -> str:
    """A class name as `DiTPipeline.labels` keeps it whole; `urllib.parse.unquote` gives the name back.

    The pipeline splits names at commas and strips white space at their ends. Both, and the percent sign, are
    percent-encoded; a name without them stays as it is. Other names are other names afterwards too.
    """
    first, last = len(name) - len(name.lstrip()), len(name.rstrip())
    lost = [letter in ",%" or not first <= i < last for i, letter in enumerate(name)]
    return "".join(quote(letter, safe="") if gone else letter for letter, gone in zip(name, lost, strict=True))


def class_table(class_names: Sequence[str]) -> list[dict[str, Any]]:
    """Write a table of each class: label, name, and name in the pipeline."""
    return [{"id": i, "name": name, "pipeline_name": pipeline_name(name)} for i, name in enumerate(class_names)]


def readme_of(card: dict[str, Any], null_label: int, handover: float = 0.0) -> str:
    """Return what whoever finds the folder somewhere else must know."""
    method = card.get("method")
    facts = {
        "base model": card.get("base_model"),
        "method": method.get("type") if isinstance(method, dict) else method,
        "step": card.get("step"),
        "licence of the base model": licence_of(card),
    }
    rows = [
        f"{entry['id']}\t{json.dumps(entry['name'])}\t{json.dumps(entry['pipeline_name'])}" for entry in card["classes"]
    ]
    told = [f"- {name}: {value}" for name, value in facts.items() if value is not None]
    extra = _HANDOVER.format(percent=f"{100 * handover:g}") if handover else ""
    found = {"facts": "\n".join(told), "rows": "\n".join(rows), "handover": extra}
    return _README.format(**found, card=CARD, null_label=null_label)


_HANDOVER = """
Its images were judged with the last {percent} % of the steps by the base model, whose transformer is here too. The
pipeline in `handover_pipeline.py` draws so; `DiTPipeline` draws with the tuned model alone:

```python
import sys

sys.path.insert(0, "THIS_FOLDER")
from handover_pipeline import HandOverDiTPipeline

pipeline = HandOverDiTPipeline.from_pretrained("THIS_FOLDER")
```
"""

_README = """# DiT

Tuned with difftune. The weights began as those of the base model: that one's licence covers them too.

{facts}

```python
from diffusers import DiTPipeline

pipeline = DiTPipeline.from_pretrained("THIS_FOLDER")
labels = pipeline.get_label_ids([next(iter(pipeline.labels))])  # a list of names from the last column below
image = pipeline(class_labels=labels, guidance_scale=1.5, num_inference_steps=50).images[0]
```
{handover}
Label {null_label} is the null label. `{card}` has the whole story, and how far the pipeline's images are from
difftune's own.

## Classes

Label, name of the class, name in `pipeline.labels`; names as JSON strings. The pipeline would split names at commas and
strip white space at their ends, so these and the percent sign are percent-encoded; `urllib.parse.unquote` undoes it.

~~~~
{rows}
~~~~
"""
