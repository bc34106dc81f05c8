from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from starlette.testclient import TestClient

from api.settings import Settings
from tests.api.conftest import CARD

JOBS = "/v1/fine_tuning/jobs"
SD = {
    **{name: value for name, value in CARD.items() if name != "num_classes"},
    "id": "small-sd",
    "family": "stable-diffusion",
    "annotators": {"depth": "small-depth"},
    "defaults": {"control": {"default_prompt": "a photo"}, "training": {"max_steps": 40, "ema_decay": 0.0}},
}
CAPTIONED = {"form": "captioned", "has_controls": True}
Problem = Callable[..., dict[str, Any]]


@pytest.fixture
def captioned(settings: Settings, add_file: Callable[..., str], settle: Callable[..., None]) -> str:
    depth = {"id": "small-depth", "digest": "0", "kind": "annotator", "conditions": ["depth"]}
    for card in (SD, depth):
        folder = settings.data_dir / "models" / card["id"]
        folder.mkdir()
        (folder / "card.json").write_text(json.dumps(card), encoding="utf-8")
    dataset_id = add_file()
    settle(dataset_id, report=CAPTIONED, class_names=None)
    return dataset_id


def body(training_file: str, condition: str = "edge", **more: Any) -> dict[str, Any]:
    return {"model": "small-sd", "training_file": training_file, "control": {"condition": condition}, **more}


def test_a_controlnet_job_is_resolved_from_the_card(client: TestClient, captioned: str) -> None:
    answer = client.post(JOBS, json=body(captioned, "depth"))
    assert answer.status_code == 200, answer.text
    job = answer.json()
    assert job["status"] == "queued"
    assert job["control"] == job["control"] | {"annotator": "small-depth", "default_prompt": "a photo"}
    hyperparameters = job["method"]["diff_tuning"]["hyperparameters"]
    assert hyperparameters["retention_set"]["prompt"] == "a photo"
    assert (hyperparameters["max_steps"], hyperparameters["horizontal_flip"]) == (40, False)
    assert job["evaluation"]["best_metric"] == "mse"


@pytest.mark.parametrize(
    ("lie", "field"),
    [
        ({"annotators": {"depth": "../../etc"}}, "annotator"),
        ({"defaults": {"control": {"prompt_dropout": 2}}}, "prompt_dropout"),
    ],
)
def test_a_card_whose_control_cannot_be_used_is_at_fault(
    client: TestClient,
    captioned: str,
    settings: Settings,
    *,
    assert_problem: Problem,
    lie: dict[str, Any],
    field: str,
) -> None:
    path = settings.data_dir / "models" / "small-sd" / "card.json"
    path.write_text(json.dumps({**SD, **lie}), encoding="utf-8")
    answer = client.post(JOBS, json=body(captioned, "depth"))
    assert field in assert_problem(answer, 422, "model_unreadable", param="model")["detail"]


def test_lora_is_on_the_attention_layers_unless_said_otherwise(client: TestClient, captioned: str) -> None:
    method = {"type": "supervised", "supervised": {"hyperparameters": {"adapter": {"type": "lora", "rank": 2}}}}
    job = client.post(JOBS, json=body(captioned, method=method)).json()
    targets = job["method"]["supervised"]["hyperparameters"]["adapter"]["targets"]
    assert targets == ["to_q", "to_k", "to_v", "to_out.0"]


def _method(**hyperparameters: Any) -> dict[str, Any]:
    return {"method": {"type": "diff_tuning", "diff_tuning": {"hyperparameters": hyperparameters}}}


_WHERE = "method.diff_tuning.hyperparameters"


@pytest.mark.parametrize(
    ("change", "code", "param"),
    [
        ({"control": None}, "control_required", "control.condition"),
        ({"control": {"condition": "normal"}}, "annotator_required", "control.annotator"),
        ({"control": {"condition": "edge", "annotator": "small-depth"}}, "annotator_not_used", "control.annotator"),
        (_method(recipe="distillation"), "recipe_not_for_model", f"{_WHERE}.recipe"),
        (_method(adapter={"type": "difffit"}), "adapter_not_for_model", f"{_WHERE}.adapter"),
        (_method(horizontal_flip=True), "flip_not_for_model", f"{_WHERE}.horizontal_flip"),
        ({"evaluation": {"guidance": "domain"}}, "guidance_not_for_model", "evaluation.guidance"),
        (
            {"evaluation": {"class_distribution": "equal"}},
            "classes_not_for_model",
            "evaluation.class_distribution",
        ),
        ({"evaluation": {"best_metric": "fid"}}, "metric_not_measured", "evaluation.best_metric"),
    ],
)
def test_what_a_controlnet_cannot_do_is_refused_by_field(
    client: TestClient, captioned: str, assert_problem: Problem, *, change: dict[str, Any], code: str, param: str
) -> None:
    assert_problem(client.post(JOBS, json=body(captioned) | change), 422, code, param=param)


_ANATOMY = {"in_channels": 4, "block_out_channels": [8, 16], "layers_per_block": 1, "cross_attention_dim": 16}


@pytest.fixture
def nets(settings: Settings, captioned: str) -> str:
    """ControlNets beside `small-sd`, which fit it or do not, one without an anatomy; and an annotator."""
    assert captioned
    unfit = {**_ANATOMY, "block_out_channels": [8, 32], "cross_attention_dim": 12, "layers_per_block": 2}
    cards: dict[str, dict[str, Any]] = {
        "small-sd": {**SD, "unet": _ANATOMY},
        "fits": {"kind": "controlnet", "anatomy": _ANATOMY},
        "wide": {"kind": "controlnet", "anatomy": {**unfit, "in_channels": 9}},
        "old": {"kind": "controlnet"},
        "dpt": {"kind": "annotator", "conditions": ["depth"]},
        "vit": {"kind": "clip"},
    }
    for model_id, card in cards.items():
        folder = settings.data_dir / "models" / model_id
        folder.mkdir(exist_ok=True)
        (folder / "card.json").write_text(json.dumps({"id": model_id, "digest": "0", **card}), encoding="utf-8")
    (settings.data_dir / "models" / "bare").mkdir()
    return captioned


@pytest.mark.parametrize("init_from", ["fits", "old", "bare"])
def test_a_controlnet_to_go_on_from_is_taken(client: TestClient, nets: str, init_from: str) -> None:
    """One that states nothing of itself is looked at where it is loaded."""
    answer = client.post(JOBS, json=body(nets, control={"condition": "edge", "init_from": init_from}))
    assert (answer.status_code, answer.json()["control"]["init_from"]) == (200, init_from)


def test_a_controlnet_that_does_not_fit_is_refused_at_submit(
    client: TestClient, nets: str, assert_problem: Problem
) -> None:
    answer = client.post(JOBS, json=body(nets, control={"condition": "edge", "init_from": "wide"}))
    detail = assert_problem(answer, 422, "model_mismatch", param="control.init_from")["detail"]
    assert "'wide' does not fit the base model 'small-sd'" in detail
    for said in (
        "in_channels is 9, the UNet's 4",
        "block_out_channels is [8, 32], the UNet's [8, 16]",
        "layers_per_block is 2, the UNet's 1",
        "cross_attention_dim is 12, the UNet's 16",
    ):
        assert said in detail
    assert client.get(JOBS).json()["data"] == []


@pytest.mark.parametrize(
    ("init_from", "code"), [("dpt", "model_mismatch"), ("small-sd", "model_mismatch"), ("no-such", "model_not_found")]
)
def test_what_is_no_controlnet_is_refused(
    client: TestClient, nets: str, assert_problem: Problem, *, init_from: str, code: str
) -> None:
    answer = client.post(JOBS, json=body(nets, control={"condition": "edge", "init_from": init_from}))
    refused = assert_problem(answer, 422, code, param="control.init_from")
    assert refused["available"] == ["fits", "old", "wide"]


def test_an_annotator_that_draws_the_condition_is_taken(client: TestClient, nets: str) -> None:
    answer = client.post(JOBS, json=body(nets, control={"condition": "depth", "annotator": "dpt"}))
    assert (answer.status_code, answer.json()["control"]["annotator"]) == (200, "dpt")


@pytest.mark.parametrize(
    ("condition", "annotator", "code", "available"),
    [
        ("segmentation", "dpt", "model_mismatch", ["tiny-segmentation"]),
        ("depth", "fits", "model_mismatch", ["dpt", "small-depth", "tiny-depth", "tiny-segmentation"]),
        ("depth", "no-such", "model_not_found", ["dpt", "small-depth", "tiny-depth", "tiny-segmentation"]),
    ],
)
def test_what_does_not_draw_the_condition_is_refused(
    client: TestClient,
    nets: str,
    assert_problem: Problem,
    *,
    condition: str,
    annotator: str,
    code: str,
    available: list[str],
) -> None:
    answer = client.post(JOBS, json=body(nets, control={"condition": condition, "annotator": annotator}))
    assert assert_problem(answer, 422, code, param="control.annotator")["available"] == available


def test_a_clip_model_can_be_what_the_best_checkpoint_goes_by(client: TestClient, nets: str) -> None:
    listed = client.get("/v1/models", params={"kind": "clip"}).json()["data"]
    assert [(model["id"], model["kind"]) for model in listed] == [("vit", "clip")]
    evaluation = {"clip_model": "vit", "best_metric": "clip_score", "every_steps": 10, "deliver": "best"}
    answer = client.post(JOBS, json=body(nets, evaluation=evaluation))
    assert answer.status_code == 200, answer.text
    assert answer.json()["evaluation"] == answer.json()["evaluation"] | evaluation


@pytest.mark.parametrize(
    ("evaluation", "code", "param"),
    [
        ({"clip_model": "dpt"}, "model_mismatch", "evaluation.clip_model"),
        ({"clip_model": "no-such"}, "model_not_found", "evaluation.clip_model"),
        ({"best_metric": "clip_score"}, "metric_not_measured", "evaluation.best_metric"),
    ],
)
def test_a_clip_score_without_a_clip_model_is_refused(
    client: TestClient, nets: str, assert_problem: Problem, *, evaluation: dict[str, Any], code: str, param: str
) -> None:
    assert_problem(client.post(JOBS, json=body(nets, evaluation=evaluation)), 422, code, param=param)


def test_images_of_classes_have_no_clip_score(client: TestClient, ready: str, assert_problem: Problem) -> None:
    plain = {"model": "tiny-dit", "training_file": ready, "evaluation": {"clip_model": "vit"}}
    assert_problem(client.post(JOBS, json=plain), 422, "clip_not_for_model", param="evaluation.clip_model")


def test_an_unknown_condition_is_refused(client: TestClient, captioned: str, assert_problem: Problem) -> None:
    answer = client.post(JOBS, json=body(captioned, "pose"))
    assert "segmentation" in assert_problem(answer, 422, "invalid_value", param="control.condition")["detail"]


def test_controlnets_are_compared_at_equal_budgets(client: TestClient, nets: str, compare: Callable[..., Any]) -> None:
    control = {"condition": "edge", "init_from": "fits"}
    answer = compare(model="small-sd", training_file=nets, control=control, evaluation={"clip_model": "vit"})
    assert answer.status_code == 200, answer.text
    made = answer.json()
    assert made["control"] == made["control"] | {**control, "default_prompt": "a photo"}
    assert made["evaluation"]["other_guidance"] == []
    assert made["evaluation"]["every_steps"] == 3, "16 evaluations or nearly so, for the rule of sudden convergence"
    assert client.get(f"/v1/comparisons/{made['id']}").json() == made
    jobs = [client.get(f"{JOBS}/{job['id']}").json() for job in made["jobs"]]
    assert [(job["seed"], job["method"]["type"]) for job in jobs] == [
        (seed, method) for seed in (0, 1) for method in ("supervised", "diff_tuning")
    ]
    for job in jobs:
        assert (job["control"], job["evaluation"]) == (made["control"], made["evaluation"])
    plain = compare().json()
    assert plain["control"] is None
    assert plain["evaluation"]["other_guidance"] == ["none", "domain"]


@pytest.mark.parametrize(
    ("fields", "code", "param"),
    [
        ({"control": ...}, "control_required", "control.condition"),
        ({"control": {"condition": "edge", "init_from": "wide"}}, "model_mismatch", "control.init_from"),
        ({"evaluation": {"other_guidance": ["none"]}}, "guidance_not_for_model", "evaluation.other_guidance"),
        ({"model": "tiny-dit"}, "control_not_for_model", "control"),
        ({"training_file": ...}, "missing_field", "training_file"),
    ],
)
def test_comparisons_of_controlnets_name_what_is_wrong(
    nets: str, compare: Callable[..., Any], assert_problem: Problem, *, fields: dict[str, Any], code: str, param: str
) -> None:
    body = {"model": "small-sd", "training_file": nets, "control": {"condition": "edge"}}
    assert_problem(compare(**body | fields), 422, code, param=param)


def test_a_data_set_of_the_other_form_is_refused(
    client: TestClient, captioned: str, ready: str, assert_problem: Problem
) -> None:
    assert_problem(client.post(JOBS, json=body(ready)), 422, "wrong_dataset_form", param="training_file")
    plain = {"model": "tiny-dit", "training_file": captioned}
    assert_problem(client.post(JOBS, json=plain), 422, "wrong_dataset_form", param="training_file")
    controlled = {"model": "tiny-dit", "training_file": ready, "control": {"condition": "edge"}}
    assert_problem(client.post(JOBS, json=controlled), 422, "control_not_for_model", param="control")


def test_a_waiting_job_fails_when_its_data_set_turns_out_to_be_of_the_other_form(
    client: TestClient, captioned: str, add_file: Callable[..., str], settle: Callable[..., None]
) -> None:
    assert captioned
    waiting = add_file()
    job = client.post(JOBS, json=body(waiting)).json()
    assert job["status"] == "validating_files"
    settle(waiting, report={"form": "class_folders"})
    ended = client.get(f"{JOBS}/{job['id']}").json()
    assert (ended["status"], ended["error"]["code"]) == ("failed", "wrong_dataset_form")
    assert ended["error"]["param"] == "training_file"


def test_a_data_set_says_its_form(client: TestClient, captioned: str, ready: str, add_file: Callable[..., str]) -> None:
    found = [client.get(f"/v1/datasets/{id_}").json() for id_ in (captioned, ready, add_file())]
    assert [dataset["form"] for dataset in found] == ["captioned", "class_folders", None]
    assert found[0]["has_controls"] is True
    assert found[0]["class_names"] is None
