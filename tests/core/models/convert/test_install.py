from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import huggingface_hub
import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from difftune_core.config.card import list_cards, read_card
from difftune_core.config.resolution import resolve
from difftune_core.config.transfer import TransferConfig
from difftune_core.families.convert.hub import fetch
from difftune_core.families.convert.request import ImportRequest
from difftune_core.families.convert.vae import read_vae
from difftune_core.families.dit.convert.fitted import Converted
from difftune_core.families.dit.install import DIT_XL_LICENCE, _licence
from difftune_core.families.install import install
from difftune_core.families.table import find_base_model
from difftune_core.hooks import OutcomeEvent, TaskError
from difftune_core.networks.autoencoder import _theirs
from difftune_core.networks.dit import PRESETS
from tests.core.conftest import RecordingHooks
from tests.core.models.convert.conftest import TRANSFORMER, VAE, WEIGHTS, write_component
from tests.golden import assert_golden

State = dict[str, torch.Tensor]
REVISION = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture
def vae(tmp_path: Path, vae_state: State) -> Path:
    return write_component(tmp_path / "vae", VAE, vae_state)


@pytest.fixture
def original(tmp_path: Path, state: State) -> Path:
    torch.save(state, tmp_path / "letters.pt")
    return tmp_path / "letters.pt"


def request(tmp_path: Path, source: Path | str, **options: Any) -> ImportRequest:
    given = {"id": "letters", "models": tmp_path / "models", "licence": "Apache-2.0", "num_heads": 2, **options}
    return ImportRequest(source=str(source), **{name: value for name, value in given.items() if value is not None})


def refused(asked: ImportRequest, match: str) -> TaskError:
    with pytest.raises(TaskError, match=match) as caught:
        install(asked, RecordingHooks())
    left = sorted(path.name for path in asked.models.iterdir()) if asked.models.is_dir() else []
    assert left in ([], [asked.id])
    return caught.value


@pytest.mark.parametrize(
    ("form", "options", "match"),
    [
        ("file", {"num_classes": 5}, "an original checkpoint has no option num_classes"),
        ("file", {"timestep_frequencies": "original"}, "an original checkpoint has no option timestep_frequencies"),
        ("folder", {}, "a diffusers folder has no option num_heads"),
        ("folder", {"num_heads": None, "input_size": 8}, "a diffusers folder has no option input_size"),
    ],
)
def test_an_option_of_the_other_form_is_refused(
    tmp_path: Path, original: Path, form: str, options: dict[str, Any], match: str
) -> None:
    error = refused(request(tmp_path, original if form == "file" else tmp_path, **options), match)
    assert (error.code, error.param) == ("invalid_option", match.rpartition(" ")[2])


def test_an_original_checkpoint_becomes_a_base_model(tmp_path: Path, original: Path, vae: Path, state: State) -> None:
    outcome = install(request(tmp_path, original, vae=str(vae)), RecordingHooks())
    assert outcome == OutcomeEvent(code="succeeded", message=outcome.message)
    assert [path.name for path in (tmp_path / "models").iterdir()] == ["letters"]
    model = find_base_model("letters", [tmp_path / "models"])
    assert model.card.image_size == 32
    card = json.loads((model.folder / "card.json").read_text())
    assert card["created_at"] > 1_700_000_000
    assert_golden("card_of_an_original.json", card | {"created_at": 0})
    assert model.card.num_classes == 5
    assert model.card.num_parameters == sum(tensor.numel() for tensor in state.values())
    assert model.card.licence == "Apache-2.0"
    assert model.card.source.startswith("letters.pt, sha256 ")
    assert str(tmp_path) not in (model.folder / "card.json").read_text()
    assert torch.equal(model.load_dit().state_dict()["blocks.1.attn.qkv.weight"], state["blocks.1.attn.qkv.weight"])
    latents, _ = model.load_autoencoder().encode(np.zeros((1, 32, 32, 3), dtype=np.uint8))
    assert latents.shape == (1, 4, 8, 8)


def test_the_card_leaves_the_papers_defaults_to_the_config(tmp_path: Path, original: Path, vae: Path) -> None:
    install(request(tmp_path, original, vae=str(vae)), RecordingHooks())
    card = read_card(tmp_path / "models" / "letters")
    resolved = resolve(TransferConfig(model="letters"), card, num_threads=1)
    assert (resolved.evaluation.sampler, resolved.evaluation.num_inference_steps) == ("ddpm", 50)
    assert (resolved.evaluation.num_images, resolved.evaluation.guidance_scale) == (10_000, 1.5)
    assert resolved.method.hyperparameters.max_steps == 24_000
    assert card.defaults.training == {}


def test_a_pipeline_brings_its_own_autoencoder(tmp_path: Path, theirs: State, vae_state: State) -> None:
    write_component(tmp_path / "pipeline" / "transformer", TRANSFORMER, theirs)
    write_component(tmp_path / "pipeline" / "vae", VAE, vae_state)
    install(request(tmp_path, tmp_path / "pipeline", num_heads=None), RecordingHooks())
    model = find_base_model("letters", [tmp_path / "models"])
    assert model.card.source == "diffusers folder pipeline"
    assert model.card.num_classes == 1000
    assert model.dit_config().timestep_frequencies == "diffusers"
    assert "_name_or_path" not in json.loads((model.folder / "vae" / "config.json").read_text())
    assert load_file(model.folder / "vae" / WEIGHTS).keys() == vae_state.keys()


def test_a_missing_feature_extractor_is_told(tmp_path: Path, original: Path, vae: Path) -> None:
    for extractor, expected in (("inception", 1), ("tiny-features", 0)):
        hooks = RecordingHooks()
        install(request(tmp_path, original, vae=str(vae), id=f"by-{extractor}", feature_extractor=extractor), hooks)
        told = [event.message for event in hooks.events if event.type == "log"]
        assert len(told) == expected
        assert all("'inception' is not installed" in message for message in told)


def test_a_model_is_never_replaced(tmp_path: Path, original: Path, vae: Path) -> None:
    asked = request(tmp_path, original, vae=str(vae))
    install(asked, RecordingHooks())
    before = (tmp_path / "models" / "letters" / "card.json").read_bytes()
    assert refused(asked, "remove it first").code == "model_exists"
    assert (tmp_path / "models" / "letters" / "card.json").read_bytes() == before


def test_an_unfinished_folder_is_no_model(tmp_path: Path, original: Path, vae: Path) -> None:
    install(request(tmp_path, original, vae=str(vae)), RecordingHooks())
    (tmp_path / "models" / "letters").rename(tmp_path / "models" / ".letters.123")
    assert list_cards([tmp_path / "models"]) == {}


def test_the_licence_is_asked_for(tmp_path: Path, original: Path, vae: Path) -> None:
    assert refused(request(tmp_path, original, vae=str(vae), licence=None), "licence").code == "licence_missing"
    xl = Converted({}, PRESETS["DiT-XL/2"])
    assert _licence(request(tmp_path, original, licence=None), xl) == DIT_XL_LICENCE
    assert "CC-BY-NC-4.0" in DIT_XL_LICENCE


def test_an_original_without_an_autoencoder_is_refused(tmp_path: Path, original: Path) -> None:
    assert refused(request(tmp_path, original), "has no vae").code == "vae_missing"


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("latent_channels", 8),
        ("_class_name", "VQModel"),
        ("shift_factor", 0.1),
        ("in_channels", 1),
        ("scaling_factor", 0),
        ("scaling_factor", float("nan")),
        ("scaling_factor", "0.5"),
    ],
)
def test_an_autoencoder_of_another_kind_is_named(tmp_path: Path, vae_state: State, field: str, value: object) -> None:
    folder = write_component(tmp_path / "other", {**VAE, field: value}, vae_state)
    with pytest.raises(TaskError, match=field) as caught:
        read_vae(folder, 4)
    assert caught.value.param == field


@pytest.mark.parametrize(
    "odd", [{"block_out_channels": [4, 4]}, {"block_out_channels": [0, 0, 0]}, {"norm_num_groups": 0}, {"act_fn": [1]}]
)
def test_an_autoencoder_that_cannot_be_made_is_refused(
    tmp_path: Path, vae_state: State, odd: dict[str, object]
) -> None:
    with pytest.raises(TaskError, match="autoencoder config: ") as caught:
        read_vae(write_component(tmp_path / "odd", VAE | odd, vae_state), 4)
    assert caught.value.code == "model_mismatch"


def test_an_autoencoder_with_missing_or_broken_weights_is_refused(tmp_path: Path, vae_state: State) -> None:
    state = {name: tensor.clone() for name, tensor in vae_state.items()}
    state["decoder.conv_in.bias"][0] = torch.inf
    with pytest.raises(TaskError, match=r"decoder\.conv_in\.bias") as caught:
        read_vae(write_component(tmp_path / "a", VAE, state), 4)
    assert caught.value.code == "not_finite"
    del state["decoder.conv_in.bias"]
    with pytest.raises(TaskError, match=r"missing \['decoder.conv_in.bias'\]"):
        read_vae(write_component(tmp_path / "b", VAE, state), 4)


def test_attention_names_of_older_diffusers_are_read(tmp_path: Path, vae_state: State) -> None:
    old = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}
    state = {}
    for name, tensor in vae_state.items():
        head, dot, kind = name.rpartition(".")
        new = next((part for part in old if head.endswith(f".{part}")), None)
        state[head.removesuffix(new) + old[new] + dot + kind if new else name] = tensor
    assert state.keys() != vae_state.keys()
    read = read_vae(write_component(tmp_path / "old", VAE, state), 4)
    assert read.state.keys() == vae_state.keys()
    assert read.factor == 4


@pytest.mark.parametrize(
    "source",
    [
        "facebook/DiT-XL-2-256",
        "facebook/DiT-XL-2-256@main",
        f"facebook/DiT-XL-2-256@{REVISION[:-1]}",
        f"facebook/DiT-XL-2-256@{REVISION.upper()}",
        f"../models@{REVISION}",
        f"/etc/models@{REVISION}",
        f"a/b/c@{REVISION}",
        f"org/..@{REVISION}",
        f"org/a..b@{REVISION}",
        f"models@{REVISION}",
        "missing.pt",
    ],
)
def test_a_source_without_a_pinned_revision_is_refused(
    tmp_path: Path, source: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    error = refused(request(tmp_path, source), "org/name@<40 hex digits>")
    assert (error.code, error.param) == ("source_not_found", "source")


@pytest.fixture
def empty_hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[tuple[str, str | None]]]:
    """A hub that has nothing; yields the paths that were asked for, with the token sent."""
    asked: list[tuple[str, str | None]] = []

    class Nothing(BaseHTTPRequestHandler):
        def do_GET(self) -> None:  # the library's name
            asked.append((self.path, self.headers.get("authorization")))
            self.send_error(404)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Nothing) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", f"http://127.0.0.1:{server.server_port}")
        monkeypatch.setenv("HF_TOKEN", "hf_secret")
        yield asked
        server.shutdown()
        thread.join()


def test_a_hub_is_asked_for_the_pinned_revision_without_a_token(
    tmp_path: Path, empty_hub: list[tuple[str, str | None]]
) -> None:
    with pytest.raises(TaskError, match=f"org/name@{REVISION}") as caught:
        fetch(f"org/name@{REVISION}", tmp_path / "scratch")
    assert caught.value.code == "download_failed"
    assert REVISION in empty_hub[-1][0]
    assert {token for _, token in empty_hub} == {None}


@pytest.mark.parametrize(("model_id", "said"), [("No Id", "invalid_config: id: "), ("a", "model_mismatch: weights: ")])
def test_the_command_says_what_came_of_it(tmp_path: Path, model_id: str, said: str) -> None:
    torch.save({"x_embedder.proj.weight": torch.ones(1)}, tmp_path / "weights.pt")
    argv = ["import", str(tmp_path / "weights.pt"), "--models", str(tmp_path / "models"), "--id", model_id]
    command = [sys.executable, "-m", "difftune_core", *argv]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert said in done.stderr
    assert list(tmp_path.glob("models/*")) == []


def test_a_pickle_is_not_opened_for_an_autoencoder(vae: Path) -> None:
    weights = vae / "diffusion_pytorch_model.safetensors"
    torch.save(load_file(weights), vae / "diffusion_pytorch_model.bin")
    weights.unlink()
    with pytest.raises(OSError, match="safetensors"):
        _theirs(vae)
