from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import select
from sqlalchemy.orm import Session

from api.datasets.states import DatasetStatus
from api.jobs.models import Job

Json = dict[str, Any]
Rows = Callable[[Callable[[Session], Any]], Any]


def method(name: str, kind: str = "supervised", **hyperparameters: Any) -> Json:
    return {"name": name, "method": {"type": kind, kind: {"hyperparameters": hyperparameters}}}


TWO = [method("plain"), method("diff", "diff_tuning", tau=0.5)]


@pytest.mark.parametrize(
    ("fields", "code", "param"),
    [
        ({"methods": TWO[:1]}, "invalid_value", "methods"),
        ({"methods": [method(str(i)) for i in range(9)]}, "invalid_value", "methods"),
        ({"methods": [TWO[0], TWO[0]]}, "not_unique", "methods.1.name"),
        ({"methods": [TWO[0], method("a/b")]}, "invalid_value", "methods.1.name"),
        ({"methods": [TWO[0], method("x", "magic")]}, "unknown_method", "methods.1.method"),
        (
            {"methods": [TWO[0], method("x", "diff_tuning", tau=-1)]},
            "invalid_value",
            "methods.1.method.diff_tuning.hyperparameters.tau",
        ),
        (
            {"methods": [*TWO, method("x", max_steps=299)]},
            "unequal_budgets",
            "methods.2.method.supervised.hyperparameters.max_steps",
        ),
        (
            {"methods": [TWO[0], method("x", "diff_tuning", batch_size=32)]},
            "unequal_budgets",
            "methods.1.method.diff_tuning.hyperparameters.batch_size",
        ),
        ({"seeds": []}, "invalid_value", "seeds"),
        ({"seeds": list(range(21))}, "invalid_value", "seeds"),
        ({"seeds": [0, 1, 0]}, "not_unique", "seeds.2"),
        ({"seeds": [-1]}, "invalid_value", "seeds.0"),
        ({"seeds": ["0"]}, "invalid_value", "seeds.0"),
        ({"model": "no-such"}, "model_not_found", "model"),
        ({"model": ...}, "missing_field", "model"),
        ({"training_file": "ds_none"}, "dataset_not_found", "training_file"),
        ({"validation_file": "ds_none"}, "dataset_not_found", "validation_file"),
        ({"metadata": {"comparison": "x"}}, "reserved_key", "metadata"),
        ({"metadata": {str(i): "x" for i in range(15)}}, "invalid_value", "metadata"),
        ({"evaluation": {"num_images": 1}}, "invalid_value", "evaluation.num_images"),
        ({"seed": 0}, "unknown_field", "seed"),
    ],
)
def test_bad_input_is_named(
    compare: Callable[..., Any], assert_problem: Callable[..., Json], rows: Rows, *, fields: Json, code: str, param: str
) -> None:
    body = assert_problem(compare(**fields), 422, code, param=param)
    assert body["errors"][0]["pointer"] == "#/" + param.replace(".", "/")
    assert rows(lambda session: session.scalars(select(Job)).all()) == [], "nothing was made"


def test_an_invalid_data_set_is_a_conflict(
    compare: Callable[..., Any],
    add_file: Callable[..., str],
    settle: Callable[..., None],
    assert_problem: Callable[..., Json],
) -> None:
    bad = add_file()
    settle(bad, DatasetStatus.INVALID, error_code="bad", error_message="no images")
    assert_problem(compare(training_file=bad), 409, "dataset_invalid", param="training_file")
