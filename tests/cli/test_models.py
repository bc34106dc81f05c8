"""`difftune models` over HTTP, over folders, and bringing models in."""

from __future__ import annotations

import io
import json
import os
import shutil
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import uvicorn
from typer.testing import CliRunner, Result

from api.app import create_app
from api.keys import service as keys
from api.logging import configure_logging
from api.settings import Settings
from cli.importing import _environment
from cli.main import app

CARD = {
    "id": "letters",
    "family": "dit",
    "image_size": 256,
    "num_classes": 1000,
    "num_parameters": 675_129_632,
    "licence": "CC-BY-NC-4.0",
    "source": "letters.pt",
    "feature_extractor": "inception",
    "digest": "0" * 64,
    "defaults": {"evaluation": {"sampler": "ddpm"}},
}


@pytest.fixture
def data_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in [name for name in os.environ if name.startswith("DIFFTUNE_")]:
        monkeypatch.delenv(name)
    folder = tmp_path / "data"
    (folder / "models" / "letters").mkdir(parents=True)
    (folder / "models" / "letters" / "card.json").write_text(json.dumps(CARD))
    return folder


@pytest.fixture
def service(data_dir: Path, migrated: Callable[[Path], None]) -> Iterator[tuple[str, str]]:
    """Address and key of a running API over that data folder."""
    migrated(data_dir)
    configure_logging(stream=io.StringIO())  # its log and the command share this process
    made = create_app(Settings(data_dir=data_dir))
    with made.state.services.database.write() as session:
        _, token = keys.create(session, tenant_id="default", name="test")
    with socket.create_server(("127.0.0.1", 0)) as listening:
        server = uvicorn.Server(uvicorn.Config(made, log_config=None))
        thread = threading.Thread(target=server.run, args=([listening],))
        thread.start()
        while not server.started:
            time.sleep(0.01)
        yield f"http://127.0.0.1:{listening.getsockname()[1]}", token
        server.should_exit = True
        thread.join()


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["models", *map(str, arguments)])


def shown(*arguments: object) -> Any:
    result = run(*arguments, "--json")
    assert result.exit_code == 0, result.stderr
    return json.loads(result.stdout)


def test_list_reads_the_data_folder_and_the_bundled_models(data_dir: Path) -> None:
    result = run("list", "--data-dir", data_dir)
    header, *rows = result.stdout.splitlines()
    assert header.split() == ["ID", "FAMILY", "PIXELS", "CLASSES", "PARAMETERS", "LICENCE"]
    row = next(row for row in rows if row.startswith("letters"))
    assert row.split() == ["letters", "dit", "256", "1,000", "675,129,632", "CC-BY-NC-4.0"]
    bundled = {path.parent.name for part in ("dit", "unet") for path in Settings().bundled_models.glob(f"*/{part}")}
    listed = {model["id"] for model in shown("list", "--data-dir", data_dir)}
    assert {"letters"} <= listed <= {"letters"} | bundled


def test_feature_extractors_are_listed_apart_from_base_models(data_dir: Path) -> None:
    folder = data_dir / "models" / "inception"
    folder.mkdir()
    card = {
        "kind": "inception",
        "id": "inception",
        "comparable": True,
        "licence": "Apache-2.0",
        "num_parameters": 21_785_568,
    }
    (folder / "card.json").write_text(json.dumps(card))
    models, extractors, _ = run("list", "--data-dir", data_dir).stdout.split("\n\n")
    assert "inception" not in models
    header, row, tiny = extractors.splitlines()
    assert header.split() == ["FEATURE", "EXTRACTOR", "KIND", "COMPARABLE", "PARAMETERS", "LICENCE"]
    assert row.split() == ["inception", "inception", "yes", "21,785,568", "Apache-2.0"]
    assert tiny.split()[:3] == ["tiny-features", "tiny", "no"]
    assert [found["id"] for found in shown("list", "--extractors", "--data-dir", data_dir)] == [
        "inception",
        "tiny-features",
    ]
    assert shown("show", "inception", "--data-dir", data_dir)["resizing"] == "clean-fid"
    assert "base models only" in run("list", "--extractors", "--url", "http://127.0.0.1:9", "--key", "k").stderr


def test_controlnets_and_annotators_are_listed_apart(data_dir: Path) -> None:
    (data_dir / "models" / "edges").mkdir()
    card = {"id": "edges", "kind": "controlnet", "conditions": ["edge", "sketch"], "digest": "0" * 64, "licence": "MIT"}
    (data_dir / "models" / "edges" / "card.json").write_text(json.dumps(card))
    models, extractors, companions = run("list", "--data-dir", data_dir).stdout.split("\n\n")
    assert "edges" not in models + extractors
    assert companions.splitlines()[1].split() == ["edges", "controlnet", "edge,", "sketch", "0", "MIT"]
    assert shown("show", "edges", "--data-dir", data_dir)["kind"] == "controlnet"


def test_an_unreadable_card_is_named_and_left_out(data_dir: Path) -> None:
    (data_dir / "models" / "broken").mkdir()
    (data_dir / "models" / "broken" / "card.json").write_text('{"family": "dit"}')
    result = run("list", "--data-dir", data_dir)
    assert result.exit_code == 0
    assert "broken" in result.stderr
    assert "broken" not in result.stdout


def test_show_tells_the_card(data_dir: Path) -> None:
    assert shown("show", "letters", "--data-dir", data_dir)["digest"] == "0" * 64
    text = run("show", "letters", "--data-dir", data_dir).stdout
    assert "licence: CC-BY-NC-4.0\n" in text
    assert '"sampler": "ddpm"' in text


def test_a_model_that_is_not_there_is_told_from_a_slip(data_dir: Path) -> None:
    assert "no base model 'leters', did you mean letters?" in run("show", "leters", "--data-dir", data_dir).stderr
    said = run("show", "qqqq", "--data-dir", data_dir).stderr
    assert "There are: letters, " in said
    assert "tiny-features" not in said, "what is no base model is not put forward as one"


def test_show_tells_the_folder(data_dir: Path) -> None:
    (data_dir / "models" / "edges").mkdir()
    card = {"id": "edges", "kind": "controlnet", "conditions": ["edge"], "digest": "0" * 64, "licence": "MIT"}
    (data_dir / "models" / "edges" / "card.json").write_text(json.dumps(card))
    assert f"folder: {data_dir / 'models' / 'letters'}\n" in run("show", "letters", "--data-dir", data_dir).stdout
    bundled = Settings().bundled_models
    for model, root in (("edges", data_dir / "models"), ("tiny-sd", bundled), ("tiny-features", bundled)):
        assert shown("show", model, "--data-dir", data_dir)["folder"] == str((root / model).resolve())


def test_show_of_an_unknown_model_names_those_there_are(data_dir: Path) -> None:
    result = run("show", "dit-xl", "--data-dir", data_dir)
    assert result.exit_code == 1
    assert "no base model 'dit-xl'" in result.stderr
    assert "letters" in result.stderr


def test_a_running_service_is_asked(service: tuple[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    url, token = service
    monkeypatch.setenv("DIFFTUNE_API_KEY", token)
    listed = shown("list", "--url", url)
    assert "letters" in [model["id"] for model in listed]
    assert all("methods" in model for model in listed)  # what only the service knows
    assert "675,129,632" in run("list", "--url", url).stdout
    assert shown("show", "letters", "--url", url)["digest"] == "0" * 64
    missing = run("show", "../letters", "--url", url)
    assert missing.exit_code == 1
    assert "letters" in missing.stderr or "404" in missing.stderr


def test_a_service_that_refuses_is_quoted(service: tuple[str, str]) -> None:
    result = run("list", "--url", service[0], "--key", "dft_wrong")
    assert result.exit_code == 1
    assert "not an API key" in result.stderr


def test_a_url_needs_a_key_and_a_service(data_dir: Path) -> None:
    assert "DIFFTUNE_API_KEY" in run("list", "--url", "http://127.0.0.1:9").stderr
    result = run("list", "--url", "http://127.0.0.1:9", "--key", "k")
    assert result.exit_code == 1
    assert "does not answer as a difftune service" in result.stderr
    assert data_dir.is_dir()


def test_import_reports_a_refusal_in_words(data_dir: Path, tmp_path: Path) -> None:
    (tmp_path / "weights.pt").write_bytes(b"no checkpoint")
    result = run("import", tmp_path / "weights.pt", "--id", "mine", "--data-dir", data_dir)
    assert result.exit_code == 1
    assert "reading and checking the weights" in result.stdout
    assert "not imported: weights.pt cannot be read as a PyTorch checkpoint" in result.stderr
    assert "(unreadable_weights)" in result.stderr
    assert [path.name for path in (data_dir / "models").iterdir()] == ["letters"]


def test_import_names_a_bad_option(data_dir: Path) -> None:
    result = run("import", "weights.pt", "--id", "../mine", "--data-dir", data_dir)
    assert result.exit_code == 1
    assert "(invalid_config)" in result.stderr
    assert "id: " in result.stderr


def test_import_of_a_model_that_is_there_changes_nothing(data_dir: Path) -> None:
    result = run("import", "weights.pt", "--id", "letters", "--data-dir", data_dir)
    assert "remove it first (model_exists)" in result.stderr
    assert json.loads((data_dir / "models" / "letters" / "card.json").read_text()) == CARD


def test_the_child_gets_no_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("DIFFTUNE_S3_SECRET_ACCESS_KEY", "DIFFTUNE_DATABASE_URL", "HF_TOKEN", "AWS_ACCESS_KEY_ID"):
        monkeypatch.setenv(name, "x")
    monkeypatch.setenv("HTTPS_PROXY", "http://proxy")
    environment = _environment()
    assert "x" not in environment.values()
    assert environment["HTTPS_PROXY"] == "http://proxy"
    assert environment["PATH"] == os.environ["PATH"]
    assert shutil.which("python3", path=environment["PATH"])
