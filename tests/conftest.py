"""Fixtures for all tests: real servers, one a session, with a fresh database for each test that asks.

A module or test that is marked `both_databases` runs twice: embedded, and (with `-m services`) on PostgreSQL and Redis.
"""

from __future__ import annotations

import gc
import os
import secrets
import shutil
import tempfile
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import Any

import pytest

from api.db import Database
from api.settings import Settings
from api.storage.s3_client import s3_client
from migrations.run import upgrade
from tests import s3_servers
from tests.s3_servers import BUCKET, CephServer, S3Server, SwiftServer
from tests.servers import PostgresServer, RedisServer, missing
from tests.small_s3 import SmallS3

_MIGRATED = "migrated"
_LONGEST = (
    "e2e/",
    "house/test_family.py",
    "test_retention_sets.py",
    "worker/test_analyses.py",
    "retention/test_retention.py",
    "test_up.py",
)
_OF_THE_USER = ("DIFFTUNE_", "OTEL_", "AWS_", "PG")


def pytest_configure() -> None:
    """Forget what the user's shell says to services and clients; a proxy would be asked for 127.0.0.1.

    Each process of the tests computes in one thread: two of them on two cores would wait for each other's threads.
    """
    os.environ["OMP_NUM_THREADS"] = "1"
    for name in list(os.environ):
        ours = name.startswith("DIFFTUNE_TEST_")
        if (name.startswith(_OF_THE_USER) and not ours) or name.lower().endswith("_proxy"):
            del os.environ[name]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if metafunc.definition.get_closest_marker("both_databases") and "database_kind" in metafunc.fixturenames:
        kinds = ["sqlite", pytest.param("postgresql", marks=pytest.mark.services)]
        metafunc.parametrize("database_kind", kinds, indirect=True)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The files that take longest begin first: at the end no process waits for another's long one."""
    items.sort(key=lambda item: not any(name in item.nodeid for name in _LONGEST))


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """What the imports of all tests leave is no garbage: looking through it takes a second each time."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.enable()


@pytest.fixture
def database_kind(request: pytest.FixtureRequest) -> str:
    """`sqlite` or `postgresql`."""
    return getattr(request, "param", "sqlite")


@pytest.fixture
def server_settings(request: pytest.FixtureRequest, database_kind: str) -> dict[str, Any]:
    """Where the test's database and broker are: nothing to say of the embedded ones."""
    if database_kind == "sqlite":
        return {}
    addresses = {"database_url": "postgres", "broker_url": "redis"}
    return {name: request.getfixturevalue(fixture) for name, fixture in addresses.items()}


def _skip_without(server: str, missing: Callable[[str], list[str]] = missing) -> None:
    if lacking := missing(server):
        message = f"{server} is not installed: {', '.join(lacking)}"
        if os.environ.get("CI"):  # there a test that does not run is a failure
            pytest.fail(message)
        pytest.skip(message)


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[PostgresServer]:
    """A PostgreSQL of this session's own, with a migrated database as a template."""
    _skip_without("postgresql")
    with tempfile.TemporaryDirectory(prefix="difftune-postgres-") as folder:
        server = PostgresServer(Path(folder))
        try:
            server.start()
            server.execute(f"CREATE DATABASE {_MIGRATED}")
            upgrade(server.url(_MIGRATED))
            yield server
        finally:
            server.stop()


@pytest.fixture(scope="session")
def migrated(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Path], None]:
    """Put a migrated SQLite database without rows into a data folder: it is made once a session, and copied."""
    made = tmp_path_factory.mktemp("database")
    upgrade(Settings(data_dir=made).database)

    def put(data_dir: Path) -> None:
        data_dir.mkdir(parents=True, exist_ok=True)
        for part in made.iterdir():
            shutil.copy(part, data_dir / part.name)

    return put


@pytest.fixture
def empty_postgres(postgres_server: PostgresServer) -> Iterator[str]:
    """URL of a database without tables."""
    with postgres_server.database() as url:
        yield url


@pytest.fixture
def postgres(postgres_server: PostgresServer) -> Iterator[str]:
    """URL of a migrated database without rows."""
    with postgres_server.database(like=_MIGRATED) as url:
        yield url


@pytest.fixture
def postgres_database(postgres: str) -> Iterator[Database]:
    """The same, opened."""
    database = Database(postgres)
    yield database
    database.close()


@pytest.fixture(scope="session")
def redis_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """A Redis of this session's own."""
    _skip_without("redis")
    server = RedisServer(tmp_path_factory.mktemp("redis"))
    server.start()
    yield server
    server.stop()


@pytest.fixture
def redis(redis_server: RedisServer) -> str:
    """URL of an empty Redis."""
    redis_server.start()
    redis_server.flush()
    return redis_server.url()


@pytest.fixture(scope="session")
def small_server() -> Iterator[SmallS3]:
    """A store in memory, of this process, that speaks S3."""
    server = SmallS3(BUCKET)
    server.start()
    yield server
    server.stop()


@pytest.fixture(scope="session")
def swift_server() -> Iterator[S3Server]:
    """An OpenStack Swift of this session's own, which speaks S3, with a bucket."""
    yield from _s3_server("swift", SwiftServer)


@pytest.fixture(scope="session")
def ceph_server() -> Iterator[S3Server]:
    """A Ceph RGW of this session's own, with a bucket."""
    yield from _s3_server("ceph", CephServer)


def _s3_server(name: str, kind: type[S3Server]) -> Iterator[S3Server]:
    _skip_without(name, s3_servers.missing)
    with tempfile.TemporaryDirectory(prefix=f"difftune-{name}-") as folder:
        server = kind(Path(folder))
        try:
            server.start()
            client = s3_client(Settings(**server.settings), server.endpoint)
            client.create_bucket(Bucket=BUCKET)
            yield server
        finally:
            server.stop()


@pytest.fixture
def swift(swift_server: S3Server) -> dict[str, Any]:
    """Settings of an empty store on Swift."""
    return new_store(swift_server)


def new_store(server: S3Server | SmallS3) -> dict[str, Any]:
    """Settings of a store that nobody else uses."""
    server.start()
    return {**server.settings, "store_url": f"s3://{BUCKET}/{secrets.token_hex(6)}"}
