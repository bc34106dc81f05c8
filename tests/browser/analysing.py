"""Reports that no page of the dashboard asks for, by the API."""

from __future__ import annotations

import time
from typing import Any
from urllib.parse import urljoin

from playwright.sync_api import APIRequestContext

from tests.browser.stack import Stack

_LONG_S = 600.0


def reports(request: APIRequestContext, stack: Stack, job: str, comparison: str) -> dict[str, str]:
    """Return the HTML of a comparison's report, and of a chain of forgetting by the job's result.

    Args:
        request: of a browser.
        stack: that is asked.
        job: one that has succeeded.
        comparison: one that is in the way, and is cancelled.
    """
    headers = {"Authorization": f"Bearer {stack.key}"}

    def asked(path: str, body: Any = None) -> Any:
        url = f"{stack.url}/v1/{path}"
        answer = request.get(url, headers=headers) if body is None else request.post(url, headers=headers, data=body)
        assert answer.ok, answer.text()
        return answer.json()

    def html_of(path: str) -> str:
        until = time.monotonic() + _LONG_S
        while (found := asked(path))["status"] not in {"succeeded", "failed", "cancelled"}:
            assert time.monotonic() < until, found
            time.sleep(0.5)
        assert found["status"] == "succeeded", found
        (url,) = (file["url"] for file in found["reports"] if file["kind"] == "report_html")
        answer = request.get(urljoin(stack.url, url), headers=headers)
        assert answer.ok, answer.text()
        return answer.text()

    tuned = asked(f"fine_tuning/jobs/{job}")
    asked(f"comparisons/{comparison}/cancel", {})  # by the form's defaults it would go on for long
    body = {
        "type": "chain_of_forgetting",
        "checkpoints": [tuned["fine_tuned_model"]],
        "fractions": [0, 0.1, 0.5],
        "evaluation": {"num_images": 16, "num_inference_steps": 4},
    }
    chain, compared = asked("analyses", body)["id"], asked("comparisons", _comparison(tuned))["id"]
    return {"chain-report": html_of(f"analyses/{chain}"), "comparison-report": html_of(f"comparisons/{compared}")}


def _comparison(tuned: Any) -> dict[str, Any]:
    hyper = {"max_steps": 4, "batch_size": 4}
    retained = {"retention_set": {"num_images": 16, "num_inference_steps": 2}}
    methods = [
        {"name": name, "method": {"type": kind, kind: {"hyperparameters": {**hyper, **more}}}}
        for name, kind, more in (("plain", "supervised", {}), ("Diff-Tuning", "diff_tuning", retained))
    ]
    evaluation = {"num_images": 16, "num_inference_steps": 4, "every_steps": 2}
    data = {name: tuned[name] for name in ("model", "training_file")}
    return {**data, "methods": methods, "seeds": [0, 1], "evaluation": evaluation}
