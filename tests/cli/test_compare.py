"""`difftune compare`: the request it makes, and what it says when it cannot go on. The whole is in tests/e2e."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner, Result

from cli.compare.request import read_request
from cli.compare.run import failures
from cli.main import app

NOTHING: dict[str, Any] = dict.fromkeys(("model", "condition", "methods", "seeds", "max_steps"))


@pytest.fixture(autouse=True)
def _no_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("DIFFTUNE_")]:
        monkeypatch.delenv(name)


def compare(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["compare", *map(str, arguments)])


def written(folder: Path, body: object) -> Path:
    path = folder / "comparison.json"
    path.write_text(body if isinstance(body, str) else json.dumps(body), encoding="utf-8")
    return path


def test_without_options_both_methods_are_compared() -> None:
    assert read_request(None, **NOTHING) == {
        "model": "tiny-dit",
        "methods": [
            {"name": "supervised", "method": {"type": "supervised"}},
            {"name": "diff_tuning", "method": {"type": "diff_tuning"}},
        ],
    }


def test_options_make_methods_seeds_and_budgets() -> None:
    body = read_request(
        None, **{**NOTHING, "model": "letters", "methods": "diff_tuning, supervised", "seeds": "3,1", "max_steps": 40}
    )
    assert (body["model"], body["seeds"]) == ("letters", [3, 1])
    assert [method["name"] for method in body["methods"]] == ["diff_tuning", "supervised"]
    for entry in body["methods"]:
        kind = entry["method"]["type"]
        assert entry["method"][kind] == {"hyperparameters": {"max_steps": 40}}


def test_options_go_before_the_file(tmp_path: Path) -> None:
    method = {"type": "diff_tuning", "diff_tuning": {"hyperparameters": {"tau": 0.5, "max_steps": 7}}}
    stated = {"model": "letters", "methods": [{"name": "half", "method": method}], "seeds": [9], "priority": 3}
    path = written(tmp_path, stated)
    assert read_request(path, **NOTHING) == stated
    body = read_request(path, **{**NOTHING, "model": "other", "seeds": "1", "max_steps": 50})
    assert (body["model"], body["seeds"], body["priority"]) == ("other", [1], 3)
    hyperparameters = body["methods"][0]["method"]["diff_tuning"]["hyperparameters"]
    assert hyperparameters == {"tau": 0.5, "max_steps": 50}


def test_a_condition_asks_for_controlnets(tmp_path: Path) -> None:
    body = read_request(None, **{**NOTHING, "condition": "edge"})
    assert (body["model"], body["control"]) == ("tiny-sd", {"condition": "edge"})
    path = written(tmp_path, {"control": {"condition": "edge", "num_validation": 4}, "methods": []})
    assert read_request(path, **NOTHING)["model"] == "tiny-sd"
    body = read_request(path, **{**NOTHING, "condition": "depth", "model": "sd-1-5"})
    assert (body["model"], body["control"]) == ("sd-1-5", {"condition": "depth", "num_validation": 4})


@pytest.mark.parametrize(
    "methods", [5, [5], [{"method": 5}], [{"method": {"type": []}}], [{"method": {"type": "x", "x": 5}}]]
)
def test_what_is_no_method_is_left_to_the_service(tmp_path: Path, methods: object) -> None:
    path = written(tmp_path, {"methods": methods})
    assert read_request(path, **{**NOTHING, "max_steps": 5})["methods"] == methods


@pytest.mark.parametrize(
    ("content", "said"),
    [("{", "is no JSON"), ("[]", "a JSON object"), ('{"training_file": "ds_1"}', "training_file is an option here")],
)
def test_a_bad_file_is_named(tmp_path: Path, content: str, said: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(typer.Exit):
        read_request(written(tmp_path, content), **NOTHING)
    assert said in capsys.readouterr().err


def test_bad_options_are_named(tmp_path: Path) -> None:
    bad = (
        (("--config", tmp_path / "none.json"), "No such file"),
        (("--seeds", "0,x"), "'0,x'"),
        (("--methods", "supervised,foo"), "there is no method 'foo'"),
    )
    for option, said in bad:
        result = compare("--data", tmp_path / "x.zip", *option)
        assert result.exit_code == 1
        assert said in result.stderr


def test_the_last_line_is_json_also_where_it_fails(tmp_path: Path) -> None:
    result = compare("--data", tmp_path / "none.zip", "--url", "http://127.0.0.1:9")
    assert result.exit_code == 1
    assert json.loads(result.stdout.splitlines()[-1]) == {
        "ok": False,
        "error": f"there is no file {tmp_path / 'none.zip'}",
    }


def test_an_address_needs_a_key_and_a_service(tmp_path: Path) -> None:
    archive = tmp_path / "x.zip"
    archive.write_bytes(b"x")
    assert "needs an API key" in compare("--data", archive, "--url", "http://127.0.0.1:9").stdout
    result = compare("--data", archive, "--url", "http://127.0.0.1:9", "--key", "dft_x")
    assert result.exit_code == 1
    assert json.loads(result.stdout.splitlines()[-1])["ok"] is False


def test_a_message_of_many_jobs_is_told_once() -> None:
    bad = {"code": "bad_archive", "message": "a.zip is no archive"}
    jobs = [
        {"method": method, "seed": seed, "error": bad} for method in ("supervised", "diff_tuning") for seed in (0, 1)
    ]
    assert failures(jobs) == ["all 4 jobs: a.zip is no archive"]
    jobs[0]["error"], jobs[3]["error"] = None, {"code": "out_of_memory", "message": "no memory"}
    told = ["supervised, seed 1; diff_tuning, seed 0: a.zip is no archive", "diff_tuning, seed 1: no memory"]
    assert failures(jobs) == told
    assert failures(jobs[:1]) == []
