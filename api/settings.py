"""One settings class for every process; only its values differ between a laptop and a cluster."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

from pydantic import Field, SecretStr, ValidationError
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SecretsSettingsSource, SettingsConfigDict

from api.addresses import BaseUrl, ListeningHost, origin

SECRETS_DIR = "DIFFTUNE_SECRETS_DIR"


def default_data_dir() -> Path:
    """The user's data home (XDG), in a folder of our own."""
    home = os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share"
    return Path(home) / "difftune"


class Settings(BaseSettings):
    """Read from `DIFFTUNE_*` environment variables, or from files of these names in `DIFFTUNE_SECRETS_DIR`.

    Everything has a default that works embedded.
    """

    model_config = SettingsConfigDict(
        env_prefix="DIFFTUNE_", env_ignore_empty=True, frozen=True, use_attribute_docstrings=True
    )

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Arguments before variables before files: a file holds what must not be in an environment."""
        del dotenv_settings, file_secret_settings
        files = SecretsSettingsSource(settings_cls, secrets_dir=os.environ.get(SECRETS_DIR) or None)
        return init_settings, env_settings, files

    data_dir: Path = Field(default_factory=default_data_dir)
    """Everything of an embedded stack: database, objects, broker folder, caches, first key."""
    alive_file: Path | None = None
    """Touched by a worker or sweep while it gets on, for a health check that knows no more than a file's age."""
    database_url: str | None = None
    """SQLAlchemy URL; null is SQLite in the data folder."""
    broker_url: str | None = None
    """Celery broker; null is Celery's filesystem transport in the data folder."""
    store_url: str | None = None
    """`s3://bucket/prefix`; null is a folder in the data folder."""
    s3_endpoint_url: BaseUrl | None = None
    """Address of the object store as services see it; null is AWS."""
    s3_public_url: BaseUrl | None = None
    """Address of the object store as clients see it, for links; null is the endpoint itself. A path in it is what a
    proxy takes away again: it is not signed."""
    s3_region: str = "us-east-1"
    s3_access_key_id: SecretStr | None = None
    s3_secret_access_key: SecretStr | None = None
    s3_timeout_s: Annotated[float, Field(gt=0)] = 60.0
    """A store that sends nothing for so long does not answer."""
    host: ListeningHost = "127.0.0.1"
    port: Annotated[int, Field(ge=0, le=65535)] = 8321
    metrics_host: str = "127.0.0.1"
    metrics_port: Annotated[int, Field(ge=1, le=65535)] | None = None
    """The port where each process serves Prometheus metrics, without a key; null: nowhere. An embedded stack uses this
    port for the API and the next two for worker and sweep."""
    public_url: BaseUrl | None = None
    """Address of the API as clients see it, for links; null is host and port, or, of all addresses, this machine."""
    allowed_hosts: list[str] = ["127.0.0.1", "localhost", "[::1]", "testserver"]
    """Host headers that are answered: a foreign page must not reach a loopback API by DNS rebinding."""
    key_cache_s: Annotated[float, Field(ge=0)] = 5.0
    """A key that was used lately is taken for so long without asking the database: so soon a revoked one is refused."""
    body_idle_s: Annotated[float, Field(gt=0)] = 15.0
    """A request's body of which nothing came for so long is refused (408)."""
    body_bytes_per_s: Annotated[float, Field(gt=0)] = 4096.0
    """A body that, after `body_idle_s` seconds, has come more slowly than this is refused too (408)."""
    model_dirs: list[Path] = []
    """Further folders of base models, before the bundled ones."""
    lease_s: Annotated[float, Field(gt=0)] = 15.0
    """A worker that was silent for so long has lost its work."""
    heartbeat_s: Annotated[float, Field(gt=0)] = 4.0
    poll_s: Annotated[float, Field(gt=0)] = 2.0
    """Workers look for work this often even when no doorbell rang."""
    sweep_s: Annotated[float, Field(gt=0)] = 3.0
    collect_s: Annotated[float, Field(gt=0)] = 3600.0
    """Objects that no row names are looked for this often."""
    orphan_grace_s: Annotated[float, Field(ge=3600)] = 86_400.0
    """Objects that no row names are deleted when they are older than this: a backup restored later may miss them."""
    max_attempts: Annotated[int, Field(ge=1)] = 5
    """Attempts in a row that crash and get no further before a job fails as a crash loop."""
    retry_delay_s: Annotated[float, Field(ge=0)] = 1.0
    """Wait before the attempt after a crash; doubled with each further one, at most a minute."""
    stop_grace_s: Annotated[float, Field(gt=0)] = 120.0
    """Time a trainer has to save when it is asked to stop."""
    cpu_slots: Annotated[int, Field(ge=0)] = 1
    """Validations and other light work at once."""
    gpu_devices: list[str] | None = None
    """GPUs of this worker, by index or UUID; null is those of `CUDA_VISIBLE_DEVICES`, or all."""
    gpu_slots: Annotated[int, Field(ge=0)] | None = None
    """Trainings at once; null is one per GPU. On a machine without GPUs they run on the CPU, `num_threads` each."""
    trainer_memory_bytes: Annotated[int, Field(gt=0)] | None = None
    """Memory that a trainer and its processes may hold; one that holds more is ended as `out_of_memory`."""
    stall_s: Annotated[float, Field(gt=0)] = 3600.0
    """A trainer that is alive but got no further for so long is ended, and its attempt counts as failed."""
    preempt_after_s: Annotated[float, Field(ge=0)] = 15.0
    """A training that waited for so long takes the slot of one with a lower priority, which saves and waits."""
    priority_across_tenants: bool = False
    """Whether a `priority` counts against other tenants' jobs too, and preempts them; else among a tenant's own."""
    cache_bytes: Annotated[int, Field(ge=0)] | None = None
    """What a node keeps of data sets, models and results that runs share (`cache/`), beside what runs at work use; what
    was used least recently goes first. Null: as much as is left free beside it."""
    num_threads: Annotated[int, Field(ge=1)] = 1
    """CPU threads of a trainer, where the config does not say."""
    resident_bytes: Annotated[int, Field(ge=0)] | None = None
    """Latents, or control images, of a job up to so many bytes stand in its memory as a whole; larger sets stay in
    their files. Null is a quarter of a GPU's free memory, and 64 MiB on a CPU."""
    trainer_command: list[str] = []
    """Begins a trainer's command line (a wrapper, for example); empty is the worker's own `python -m difftune_core`."""
    max_upload_bytes: int = 5 * 2**40
    max_part_bytes: int = 64 * 2**20
    """Most bytes of a part that comes through the API."""
    max_file_bytes: int = 512 * 2**20
    """Most bytes of a file sent in one request (`POST /v1/files`); larger ones are uploaded in parts."""
    quota_bytes: Annotated[int, Field(ge=0)] | None = None
    """Most bytes of a tenant's data sets and pending uploads together; null is no limit."""
    import_prefixes: list[Annotated[str, Field(pattern=r"^s3://[^/]+/.*$")]] = []
    """What users may import data sets from: `s3://bucket/` or `s3://bucket/prefix/`, each. Empty: nothing."""
    import_s3_endpoint_url: BaseUrl | None = None
    """Address of the store that imports come from; null is AWS. No user chooses an address."""
    import_s3_region: str = "us-east-1"
    import_s3_access_key_id: SecretStr | None = None
    """Id of a key that may read the store that imports come from, and no more."""
    import_s3_secret_access_key: SecretStr | None = None
    upload_ttl_s: float = 7 * 86_400.0
    idempotency_ttl_s: float = 2 * 86_400.0
    """How long a request with an `Idempotency-Key` is remembered."""
    link_ttl_s: float = 900.0
    """Life of a download link."""
    images_wait_s: Annotated[float, Field(ge=0, le=600)] = 30.0
    """A request for images that takes longer is answered with 202, and how far it is."""
    images_patience_s: Annotated[float, Field(ge=0)] = 600.0
    """Images that were asked for wait this long for all jobs, then in turn with them, and keep a slot as long."""
    images_ttl_s: Annotated[float, Field(gt=0)] = 7 * 86_400.0
    """How long images that were asked for are kept."""
    max_images: Annotated[int, Field(ge=1, le=1024)] = 16
    """Most images of one request."""
    max_generations: Annotated[int, Field(ge=1)] = 100
    """Most requests for images of a tenant that are in the queue or in work."""
    warm_model_s: Annotated[float, Field(ge=0)] = 300.0
    """How long a process that has drawn images keeps its model in memory for the next request. A job ends it."""
    session_ttl_s: Annotated[float, Field(gt=0)] = 43_200.0
    """Life of a login in a browser; it ends earlier where its key does."""
    session_secret: Annotated[SecretStr, Field(min_length=32)] | None = None
    """Signs logins, and is the same for all processes of the API. Null: made of the store's secret key, or else kept in
    the data folder."""

    @property
    def database(self) -> str:
        """The database's URL, resolved."""
        return self.database_url or f"sqlite:///{self.data_dir / 'difftune.sqlite3'}"

    @property
    def base_url(self) -> str:
        """Address of the API for links."""
        return self.public_url or origin(self.host, self.port)

    @property
    def bundled_models(self) -> Path:
        """The tiny family's folder inside the package."""
        import difftune_core

        return Path(difftune_core.__path__[0]) / "weights"

    @property
    def model_roots(self) -> list[Path]:
        """Where base models and feature extractors are looked for, in order."""
        return [*self.model_dirs, self.data_dir / "models", self.bundled_models]


def faults_of(error: ValidationError) -> str:
    """Return what is wrong with settings, in a line that names their variables."""
    told = ((fault["loc"], fault["msg"].removeprefix("Value error, ")) for fault in error.errors())
    return "; ".join(f"DIFFTUNE_{'_'.join(map(str, name)).upper()}: {message}" for name, message in told)
