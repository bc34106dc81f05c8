"""Images on request from the embedded service, by the unmodified `openai` package and by `difftune generate`."""

from __future__ import annotations

import base64
import io
import json
from pathlib import Path

import openai
import pytest
from PIL import Image
from typer.testing import CliRunner

from cli.main import app
from tests.e2e.conftest import Service


def test_openais_client_draws_waits_and_is_told_of_faults(service: Service) -> None:
    drawing = service.client.with_options(max_retries=0).images
    more = {"seed": 7, "num_inference_steps": 2}
    answer = drawing.generate(model="tiny-dit", prompt="3", n=2, response_format="b64_json", extra_body=more)
    assert answer.data is not None
    found = [base64.b64decode(image.b64_json or "") for image in answer.data]
    assert [Image.open(io.BytesIO(content)).size for content in found] == [(32, 32)] * 2
    again = drawing.generate(model="tiny-dit", prompt="3", n=1, size="auto", extra_body=more)
    assert again.data is not None
    assert service.http.get(again.data[0].url or "", headers={"authorization": ""}).content == found[0]
    with pytest.raises(openai.UnprocessableEntityError) as caught:
        drawing.generate(model="tiny-dit", prompt="three", n=1)
    assert (caught.value.code, caught.value.param) == ("unknown_class", "prompt")


def test_the_command_line_puts_images_into_a_folder(service: Service, tmp_path: Path) -> None:
    named = ["--url", str(service.http.base_url), "--key", service.client.api_key, "--json"]
    drawn = ["generate", "tiny-dit", "3", "-n", "1", "--seed", "7", "--steps", "2", "--to", str(tmp_path)]
    done = CliRunner().invoke(app, [*drawn, *named])
    assert done.exit_code == 0, done.output
    (path,) = json.loads(done.stdout)["paths"]
    with Image.open(path) as image:
        assert image.size == (32, 32)
    assert Path(path).parent == tmp_path
