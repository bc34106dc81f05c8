"""What the compose file promises, read without a docker engine; `make compose-test` tries it with one."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from api.settings import Settings

ROOT = Path(__file__).parents[2]
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text(encoding="utf-8"))
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
ONE_SHOTS = {"init", "migrate"}
DAEMONS = {"db", "redis", "store", "api", "sweep", "worker-cpu", "worker-gpu", "gateway"}


def test_all_roles_are_there() -> None:
    assert set(SERVICES) == ONE_SHOTS | DAEMONS
    assert [name for name, service in SERVICES.items() if "profiles" in service] == ["worker-gpu"]


@pytest.mark.parametrize("name", sorted(SERVICES))
def test_every_service_is_contained(name: str) -> None:
    service = SERVICES[name]
    assert service["user"] == "10001:10001"
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert "cap_add" not in service
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert "mem_limit" in service
    assert "pids_limit" in service
    assert service["logging"]["options"].keys() >= {"max-size", "max-file"}
    assert all("size=" in mount for mount in service["tmpfs"])


@pytest.mark.parametrize("name", sorted(DAEMONS))
def test_every_daemon_comes_back_and_is_asked_for_its_health(name: str) -> None:
    assert SERVICES[name]["restart"] == "unless-stopped"
    assert SERVICES[name]["healthcheck"]["test"]


def test_one_port_is_published_and_on_loopback_by_default() -> None:
    published = {name: service["ports"] for name, service in SERVICES.items() if "ports" in service}
    assert published == {"gateway": ["${DIFFTUNE_BIND:-127.0.0.1}:${DIFFTUNE_PORT:-8321}:8080"]}
    assert COMPOSE["networks"]["default"] == {"internal": True}


def test_foreign_images_are_pinned_by_version() -> None:
    foreign = {s["image"] for s in SERVICES.values() if not s["image"].startswith("difftune-")}
    assert len(foreign) == len({"db", "redis", "store", "gateway"})
    assert all(re.fullmatch(r"[a-z/]+:\d+\.\d+(\.\d+)?", image) for image in foreign)


def test_the_client_in_our_image_is_of_the_server_s_version() -> None:
    """An older one refuses to dump; one of another distribution has other libraries."""
    recipe = (ROOT / "docker" / "Dockerfile").read_text(encoding="utf-8")
    (client,) = re.findall(r"^ARG POSTGRES=(\S+)$", recipe, re.MULTILINE)
    (base,) = re.findall(r"^ARG BASE=debian:(\w+)-slim$", recipe, re.MULTILINE)
    assert client == f"{SERVICES['db']['image']}-{base}"


def test_no_password_is_written_down() -> None:
    for name, service in SERVICES.items():
        secret = {key for key in service.get("environment", {}) if re.search("PASSWORD|SECRET|KEY", key)}
        assert secret <= {"POSTGRES_PASSWORD_FILE", "DIFFTUNE_SECRETS_DIR"}, name


def test_workers_have_longer_to_end_than_trainers_have_to_save() -> None:
    grace = int(COMPOSE["x-settings"]["DIFFTUNE_STOP_GRACE_S"].rpartition(":-")[2].rstrip("}"))
    assert grace == Settings().stop_grace_s
    for name in ("worker-cpu", "worker-gpu"):
        assert int(SERVICES[name]["stop_grace_period"].rstrip("s")) > grace + 30


def test_variables_of_opentelemetry_are_passed_on_as_they_are() -> None:
    for name in ("api", "sweep", "worker-cpu", "worker-gpu"):
        given = {key: value for key, value in SERVICES[name]["environment"].items() if key.startswith("OTEL_")}
        assert "OTEL_EXPORTER_OTLP_ENDPOINT" in given, name
        assert set(given.values()) == {None}, "nothing where the operator sets nothing"


def test_every_setting_is_one() -> None:
    known = {f"DIFFTUNE_{name.upper()}" for name in Settings.model_fields} | {"DIFFTUNE_SECRETS_DIR"}
    given = {
        key for service in SERVICES.values() for key in service.get("environment", {}) if key.startswith("DIFFTUNE")
    }
    assert given <= known
