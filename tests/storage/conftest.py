from __future__ import annotations

import os
from pathlib import Path

import pytest

from api.settings import Settings
from api.storage import ObjectStore, open_store
from tests.conftest import new_store

SERVERS = [
    "local",
    "small",
    pytest.param("swift", marks=pytest.mark.services),
    pytest.param("ceph", marks=pytest.mark.ceph),
]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "store_kind" in metafunc.fixturenames:
        marked = metafunc.definition.get_closest_marker
        kinds = SERVERS[2:] if marked("real_s3") else SERVERS[1:] if marked("s3") else SERVERS
        metafunc.parametrize("store_kind", kinds)


@pytest.fixture
def settings(
    store_kind: str, tmp_path: Path, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> Settings:
    for name in [name for name in os.environ if name.startswith(("DIFFTUNE_", "AWS_"))]:
        monkeypatch.delenv(name)
    if store_kind == "local":
        return Settings(data_dir=tmp_path)
    return Settings(data_dir=tmp_path, **new_store(request.getfixturevalue(f"{store_kind}_server")))


@pytest.fixture
def store(settings: Settings) -> ObjectStore:
    return open_store(settings)
