"""What `docker/monitoring.yml` brings: every panel shows something, every rule is known to fire.

A real Prometheus (Debian: prometheus) scrapes the metrics that API and workers serve.
"""

from __future__ import annotations

import json
import re
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client import REGISTRY
from starlette.testclient import TestClient

from api.deps import Services
from api.metrics import WorkInDatabase, serve_metrics
from api.work import service as work
from api.work.states import WorkKind, WorkState
from difftune_core.hooks import PhaseEvent
from tests.servers import PrometheusServer, free_port, missing
from worker import telemetry
from worker.failures import AT_ONCE, RULES
from worker.telemetry import ATTEMPTS, LEASES_EXPIRED, LEASES_LOST, STEPS_PER_SECOND, GpuMemory, RunTelemetry

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "docker" / "monitoring"
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "docker" / "monitoring.yml").read_text(encoding="utf-8"))
STACK: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text(encoding="utf-8"))
BOARD: dict[str, Any] = json.loads((FOLDER / "difftune.json").read_text(encoding="utf-8"))
ALERTS: list[dict[str, Any]] = yaml.safe_load((FOLDER / "rules.yml").read_text(encoding="utf-8"))["groups"][0]["rules"]
TARGETS = [(panel["title"], target) for panel in BOARD["panels"] for target in panel["targets"]]
_PATIENCE_S = 30.0


def test_both_are_contained_and_on_loopback_by_default() -> None:
    for name, service in COMPOSE["services"].items():
        assert service["read_only"] is True, name
        assert service["cap_drop"] == ["ALL"], name
        assert "mem_limit" in service, name
        assert re.fullmatch(r"[a-z/]+:v?\d+\.\d+\.\d+", service["image"]), name
    published = {name: service["ports"] for name, service in COMPOSE["services"].items() if "ports" in service}
    assert published == {"grafana": ["${DIFFTUNE_BIND:-127.0.0.1}:${DIFFTUNE_GRAFANA_PORT:-3000}:3000"]}


def test_every_process_that_serves_metrics_is_scraped() -> None:
    config = yaml.safe_load((FOLDER / "prometheus.yml").read_text(encoding="utf-8"))
    (discovered,) = config["scrape_configs"][0]["dns_sd_configs"]
    port = STACK["x-settings"]["DIFFTUNE_METRICS_PORT"]
    serving = {
        name
        for name, service in STACK["services"].items()
        if service.get("environment", {}).get("DIFFTUNE_METRICS_PORT") == port
        and service.get("restart") == "unless-stopped"
    }
    assert (set(discovered["names"]), discovered["port"]) == (serving, port)


def test_attempts_that_failed_are_those_that_no_user_is_to_blame_for() -> None:
    (rule,) = (alert["expr"] for alert in ALERTS if alert["alert"] == "DifftuneAttemptsFail")
    counted = set(re.findall(r'outcome=~"([^"]+)"', rule)[0].split("|"))
    assert counted == RULES.keys() - AT_ONCE - {"workspace_busy"}
    assert any("|".join(sorted(counted)) == "|".join(sorted(told)) for told in _outcomes_of_the_board())


def _outcomes_of_the_board() -> list[list[str]]:
    found = (re.findall(r'outcome=~"([^"]+)"', target["expr"]) for _, target in TARGETS)
    return [outcomes[0].split("|") for outcomes in found if outcomes]


def test_every_rule_has_its_page() -> None:
    page = (ROOT / "docs" / "hosting.md").read_text(encoding="utf-8")
    assert [alert["alert"] for alert in ALERTS if f"| `{alert['alert']}` |" not in page] == []


@pytest.fixture
def prometheus(tmp_path: Path) -> Callable[..., PrometheusServer]:
    if lacking := missing("prometheus"):
        pytest.skip(f"prometheus is not installed: {', '.join(lacking)}")
    return lambda config: PrometheusServer(tmp_path, config)


@pytest.mark.services
@pytest.mark.usefixtures("prometheus")
def test_rules_fire_when_they_should() -> None:
    rules = ROOT / "tests" / "compose" / "rules_test.yml"
    done = subprocess.run(["promtool", "test", "rules", rules], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    tried = set(re.findall(r"alertname: (\w+)", rules.read_text(encoding="utf-8")))
    assert {alert["alert"] for alert in ALERTS} - tried == {"DifftuneQueueIsLong", "DifftuneGpuIdle"}, "two thresholds"


@pytest.mark.services
def test_every_panel_shows_something(
    client: TestClient,
    services: Services,
    prometheus: Callable[..., PrometheusServer],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(telemetry, "has_driver", lambda: True)
    monkeypatch.setattr(telemetry, "asked", lambda *_, **__: "0, 1024, 81559, 97\n")  # of a GPU that is not here
    port = free_port()
    settings = services.settings.model_copy(update={"metrics_port": port})
    collectors = WorkInDatabase(services.database), GpuMemory()
    serve_metrics(settings, *collectors)
    with services.database.write() as session:
        for state in (WorkState.QUEUED, WorkState.LEASED):
            work.enqueue(session, WorkKind.TRAIN, f"ftjob_{state}", tenant_id="t").state = state
    server = prometheus(
        {
            "rule_files": [str(FOLDER / "rules.yml")],
            "scrape_configs": [{"job_name": "difftune", "static_configs": [{"targets": [f"127.0.0.1:{port}"]}]}],
        }
    )
    server.start()
    try:
        assert _empty_after_a_while(server, client) == []
        groups = server.asked("rules")["groups"]
        assert {rule["health"] for group in groups for rule in group["rules"]} == {"ok"}
        assert len(groups[0]["rules"]) == len(ALERTS)
    finally:
        server.stop()
        for collector in collectors:
            REGISTRY.unregister(collector)


def _empty_after_a_while(server: PrometheusServer, client: TestClient) -> list[str]:
    """Panels that show nothing, or lack a label that their legend names, while things go on."""
    deadline = time.monotonic() + _PATIENCE_S
    run = RunTelemetry("train", 0)
    while True:
        client.get("/v1/models")
        for phase in ("training", "evaluating"):
            run.heard(PhaseEvent(phase=phase))
        STEPS_PER_SECOND.labels("0").set(2.5)
        for counter in (LEASES_LOST, LEASES_EXPIRED):
            counter.labels("train").inc()
        for outcome in ("succeeded", "worker_lost"):
            ATTEMPTS.labels("train", outcome).inc()
        empty = [title for title, target in TARGETS if not _shown(server, target)]
        if not empty or time.monotonic() > deadline:
            return empty
        time.sleep(0.3)


def _shown(server: PrometheusServer, target: dict[str, Any]) -> bool:
    query = re.sub(r"\[(?:\$__rate_interval|1h|5m)\]", "[5s]", target["expr"])
    found = server.asked("query", query=query)["result"]
    legend = set(re.findall(r"{{(\w+)}}", target["legendFormat"]))
    return bool(found) and all(legend <= series["metric"].keys() for series in found)
