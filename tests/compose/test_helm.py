"""The chart, linted and rendered by Helm itself where `helm-python-sdk` is installed (`pip install -e '.[charts]'`)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

helm = pytest.importorskip("helm_python", reason="pip install -e '.[charts]'")
CHART = Path(__file__).parents[2] / "docker" / "helm"


def rendered(**values: Any) -> dict[tuple[str, str], dict[str, Any]]:
    with helm.Chart.load(CHART) as chart:
        files = chart.render(values, name="demo", namespace="default")
    found = [part for text in files.values() for part in yaml.safe_load_all(text) if part]
    return {(part["kind"], part["metadata"]["name"].removeprefix("demo-")): part for part in found}


def pods() -> dict[str, dict[str, Any]]:
    kinds = {"Job", "Deployment", "StatefulSet"}
    return {name: part["spec"]["template"]["spec"] for (kind, name), part in rendered().items() if kind in kinds}


def test_helm_finds_nothing_wrong() -> None:
    assert helm.lint(CHART)["errors"] == []


def test_all_roles_are_there() -> None:
    assert set(pods()) == {"migrate", "api", "sweep", "worker-cpu", "worker-gpu"}
    budgets = {name for kind, name in rendered() if kind == "PodDisruptionBudget"}
    assert budgets == {"api", "worker-cpu", "worker-gpu"}
    hook = rendered()["Job", "migrate"]["metadata"]["annotations"]["helm.sh/hook"]
    assert hook == "pre-install,pre-upgrade"


def test_every_pod_is_contained_and_takes_secrets_from_an_existing_one() -> None:
    for name, pod in pods().items():
        (container,) = pod["containers"]
        assert pod["securityContext"]["runAsNonRoot"] is True, name
        assert container["securityContext"]["readOnlyRootFilesystem"] is True, name
        assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}, name
        secret = next(volume for volume in pod["volumes"] if volume["name"] == "secrets")
        assert secret["secret"]["secretName"] == "difftune", name
        assert name == "migrate" or "livenessProbe" in container, name


def test_a_gpu_worker_asks_for_its_gpus_and_has_time_to_save() -> None:
    changed = rendered(workerGpu={"gpus": 2}, stopGraceSeconds=300)
    spec = changed["StatefulSet", "worker-gpu"]["spec"]["template"]["spec"]
    (container,) = spec["containers"]
    assert container["resources"]["limits"]["nvidia.com/gpu"] == 2
    settings = {setting["name"]: setting.get("value") for setting in container["env"]}
    assert settings["DIFFTUNE_GPU_SLOTS"] == "2"
    assert spec["terminationGracePeriodSeconds"] > int(settings["DIFFTUNE_STOP_GRACE_S"]) == 300


def test_variables_of_opentelemetry_reach_every_role() -> None:
    endpoint = {"name": "OTEL_EXPORTER_OTLP_ENDPOINT", "value": "http://collector:4318"}
    changed = rendered(otel={endpoint["name"]: endpoint["value"]})
    for kind, name in (("Deployment", "api"), ("Deployment", "sweep"), ("StatefulSet", "worker-gpu")):
        (container,) = changed[kind, name]["spec"]["template"]["spec"]["containers"]
        assert endpoint in container["env"], name


def test_a_worker_that_nobody_wants_is_left_out_and_the_ingress_follows_the_public_address() -> None:
    changed = rendered(workerGpu={"replicas": 0}, ingress={"enabled": True}, publicUrl="https://tune.example.com")
    assert ("StatefulSet", "worker-gpu") not in changed
    assert changed["Ingress", "demo"]["spec"]["rules"][0]["host"] == "tune.example.com"
