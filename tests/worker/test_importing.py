"""The file of an imported data set on its way into our store: whole and unchanged, or not at all."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from api.datasets import imports
from api.datasets.models import Dataset
from api.datasets.schemas import DatasetImport
from api.settings import Settings
from api.storage import ObjectStore, open_store
from tests.conftest import new_store
from tests.small_s3 import SmallS3

Bench = Any  # the class of conftest.py
CONTENT = json.dumps({"steps": 1}).encode()


@pytest.fixture
def bucket(small_server: SmallS3) -> dict[str, Any]:
    return new_store(small_server)


@pytest.fixture
def source(bucket: dict[str, Any]) -> ObjectStore:
    """The operator's bucket."""
    store = open_store(Settings(**bucket))
    store.put_stream("a.zip", [CONTENT])
    return store


@pytest.fixture
def ask(bench: Bench, bucket: dict[str, Any], source: ObjectStore) -> Callable[[], str]:
    """Ask for the import of `a.zip`; the data set's id."""
    theirs = {f"import_{name}": value for name, value in bucket.items() if name.startswith("s3_")}
    bench.settings = bench.settings.model_copy(update={**theirs, "import_prefixes": [bucket["store_url"]]})
    del source

    def create() -> str:
        asked = DatasetImport(uri=f"{bucket['store_url']}/a.zip")
        found = imports.parsed(bench.settings, asked.uri).stat()
        with bench.database.write() as session:
            return str(imports.create(session, bench.settings, "t", asked, found).id)

    return create


def settled(bench: Bench, dataset_id: str) -> Dataset:
    with bench.worker():
        bench.wait(lambda: bench.get(Dataset, dataset_id).status != "validating")
    return bench.get(Dataset, dataset_id)


def test_it_is_copied_and_then_validated_as_any_other(bench: Bench, ask: Callable[[], str]) -> None:
    found = settled(bench, ask())
    assert (found.status, found.error_message) == ("ready", None)
    [part] = found.parts
    assert b"".join(bench.store.read(part["key"])) == CONTENT
    assert part["bytes"] == len(CONTENT)


@pytest.mark.parametrize(
    ("becomes", "code"),
    [(None, "source_missing"), (CONTENT + b" ", "source_changed"), (CONTENT[::-1], "source_changed")],
    ids=["gone", "longer", "another of the same size"],
)
def test_a_source_that_is_not_what_it_was_is_named(
    bench: Bench, ask: Callable[[], str], source: ObjectStore, becomes: bytes | None, code: str
) -> None:
    dataset_id = ask()
    source.delete("a.zip")
    if becomes is not None:
        source.put_stream("a.zip", [becomes])
    found = settled(bench, dataset_id)
    assert (found.status, found.error_code) == ("invalid", code)
    assert "a.zip" in str(found.error_message)
    assert list(bench.store.list("datasets/")) == []


def test_what_the_operator_no_longer_allows_is_not_brought_in(bench: Bench, ask: Callable[[], str]) -> None:
    dataset_id = ask()
    bench.settings = bench.settings.model_copy(update={"import_prefixes": []})
    assert settled(bench, dataset_id).error_code == "import_not_allowed"
