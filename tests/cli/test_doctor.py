from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from cli.main import app
from cli.secrets import write_secrets


def test_the_doctor_of_an_embedded_service(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DIFFTUNE_DATA_DIR", str(tmp_path))
    done = CliRunner().invoke(app, ["doctor", "--json"])
    found = {line["check"]: line for line in map(json.loads, done.stdout.splitlines())}
    expected = ["versions", "database", "broker", "object store", "data folder", "secrets", "base models", "devices"]
    assert list(found) == expected
    assert not [line for line in found.values() if line["state"] == "bad"]
    assert done.exit_code == 0


def test_a_data_folder_that_is_missing_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DIFFTUNE_DATA_DIR", str(tmp_path / "variable"))
    monkeypatch.setattr("cli.doctor._devices", lambda: iter(()))
    done = CliRunner().invoke(app, ["doctor", "--data-dir", str(tmp_path / "option")])
    assert done.exit_code == 0, "before the first start nothing is wrong"
    assert f" note  data folder  {tmp_path / 'option'} does not exist\n" in done.stdout
    assert "objects is made at the first start" in done.stdout
    assert "variable" not in done.stdout, "the option goes before the variable, for every check"
    assert not list(tmp_path.iterdir()), "the doctor makes nothing"


def test_what_is_wrong_is_said_in_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DIFFTUNE_DATA_DIR", str(tmp_path))
    monkeypatch.setenv("DIFFTUNE_STORE_URL", "https://example.invalid/bucket")
    monkeypatch.setattr("cli.doctor._devices", lambda: iter(()))
    done = CliRunner().invoke(app, ["doctor"])
    assert done.exit_code == 1
    assert "WRONG  object store https://example.invalid/bucket: DIFFTUNE_STORE_URL must begin with s3://" in done.stdout


def test_secrets_are_made_once_and_for_their_owner_alone(tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    made = write_secrets(first)
    before = {name: (first / name).read_text() for name in made}
    assert write_secrets(first) == []
    assert before == {name: (first / name).read_text() for name in made}
    assert {path.stat().st_mode & 0o777 for path in first.rglob("*") if path.is_file()} == {0o600}
    write_secrets(second)
    assert not {name for name in made if (second / name).read_text() == before[name]}


def test_what_users_of_a_secret_read_fits_together(tmp_path: Path) -> None:
    write_secrets(tmp_path)
    (tmp_path / "redis" / "redis.conf").unlink()  # as if the first start had been cut off here
    write_secrets(tmp_path)
    password = (tmp_path / "redis" / "password").read_text().strip()
    assert f"requirepass {password}\n" in (tmp_path / "redis" / "redis.conf").read_text()
    assert f"redis://:{password}@redis:6379/0" == (tmp_path / "app" / "difftune_broker_url").read_text().strip()
    key = json.loads((tmp_path / "store" / "s3.json").read_text())["identities"][0]["credentials"][0]
    assert key["secretKey"] == (tmp_path / "app" / "difftune_s3_secret_access_key").read_text().strip()


def test_another_machine_is_told_three_addresses(tmp_path: Path) -> None:
    write_secrets(tmp_path)
    done = CliRunner().invoke(app, ["secrets", "show", str(tmp_path), "--host", "10.0.0.5"])
    told = dict(line.split("=", 1) for line in done.stdout.splitlines())
    assert told["DIFFTUNE_DATABASE_URL"].endswith("@10.0.0.5:5432/difftune")
    assert told["DIFFTUNE_BROKER_URL"].endswith("@10.0.0.5:6379/0")
    assert told["DIFFTUNE_S3_ENDPOINT_URL"] == "http://10.0.0.5:8333"
