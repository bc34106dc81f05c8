"""What a trainer is told of a data set besides its file."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from api.datasets.models import Dataset
from difftune_core.config.dataset import Validated
from worker.inputs import validated_arguments
from worker.workspace import Workspace

Bench = Any  # the class of conftest.py


def told(bench: Bench, tmp_path: Path, **columns: Any) -> list[str]:
    dataset = bench.get(Dataset, bench.dataset({}, **columns))
    workspace = Workspace(tmp_path, "job")
    (workspace.folder / "inputs").mkdir(parents=True, exist_ok=True)
    run: Any = SimpleNamespace(
        workspace=workspace, check=lambda: None, using=None, tools=SimpleNamespace(store=bench.store)
    )
    return validated_arguments(run, "data", dataset)


def test_what_the_validation_left_is_handed_on_where_it_is_there(bench: Bench, tmp_path: Path) -> None:
    report, key, row = {"digest": "d"}, "datasets/a/items.jsonl", {"path": "a/1.png"}
    bench.store.put_stream(key, [json.dumps(row).encode()])
    option, text = told(bench, tmp_path, report=report, items_key=key)
    found = Validated.model_validate_json(text)
    assert (option, found.digest, json.loads(found.items.read_bytes())) == ("--data-validated", "d", row)
    assert told(bench, tmp_path, report=report, items_key="datasets/lost/items.jsonl") == []
    assert told(bench, tmp_path, report={}, items_key=key) == [], "of a version whose reports had no digest"
    assert told(bench, tmp_path, report=report) == []
    assert not list(tmp_path.rglob("*lost*"))
