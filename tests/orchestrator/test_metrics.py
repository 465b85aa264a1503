"""What a server tells Prometheus is what happened."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import pytest
from fastapi.testclient import TestClient
from prometheus_client.parser import text_string_to_metric_families

from experts.fake import FakeExpert
from experts.values import Call
from orchestrator.config import Config
from orchestrator.fitted import Fitted
from orchestrator.keys.key import ASKING, new_key
from orchestrator.keys.opening import open_keys
from orchestrator.ledger import Ledger
from orchestrator.rest.app import create_app
from tests.orchestrator.batch.batches import echo, make_conclave
from tests.orchestrator.learning.test_learning import judged, made

Samples = dict[tuple[str, tuple[tuple[str, str], ...]], float]


def samples(text: str) -> Samples:
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def of(found: Samples, name: str, **labels: str) -> float:
    return found[name, tuple(sorted(labels.items()))]


def failing(call: Call) -> str:
    raise RuntimeError("out of order")


def body(model: str, **more: object) -> dict[str, object]:
    return {"model": model, "messages": [{"role": "user", "content": "Why?"}], **more}


def test_what_was_asked_is_counted_once(ledger: Ledger) -> None:
    experts = [FakeExpert("it", echo), FakeExpert("broken", failing)]
    with TestClient(create_app(make_conclave(ledger, experts), Config())) as client:
        url = "/v1/chat/completions"
        answers = [
            client.post(url, json=body("it")),
            client.post(url, json=body("it", n=2)),  # the long way
            client.post(url, json=body("it", stream=True)),
            client.post(url, json=body("broken")),
            client.post(url, json=body("nobody")),
            client.post(url, content=b"{"),
        ]
        assert [a.status_code for a in answers] == [200, 200, 200, 502, 404, 400]
        decision_id = answers[0].json()["conclave"]["decision_id"]
        client.post("/v1/feedback", json={"decision_id": decision_id, "correct": True})
        client.post("/v1/feedback", json={"decision_id": decision_id, "score": 0.5})
        client.get("/v1/secret-word")
        response = client.get("/metrics")
        [spent] = ledger.rows(
            "SELECT SUM(cost_usd) AS usd, SUM(output_tokens) AS n FROM calls WHERE expert = 'it' "
            "AND purpose = 'answer'"
        )
    found = samples(response.text)
    assert response.headers["content-type"].startswith("text/plain")
    assert of(found, "conclave_requests_total", route="chat", status="200") == 3
    for status in ("502", "404", "400"):
        assert of(found, "conclave_requests_total", route="chat", status=status) == 1
    assert of(found, "conclave_requests_total", route="other", status="404") == 1
    assert "secret-word" not in response.text
    assert of(found, "conclave_request_seconds_count", route="chat") == 6
    assert of(found, "conclave_requests_under_way") == 1  # this one
    called = {"expert": "it", "purpose": "answer", "outcome": "stop"}
    assert of(found, "conclave_calls_total", **called) == 4
    assert of(found, "conclave_call_seconds_bucket", expert="it", le="+Inf") == 4
    failed = {"expert": "broken", "purpose": "answer", "outcome": "failed"}
    assert of(found, "conclave_calls_total", **failed) == 1
    assert of(found, "conclave_decisions_total", policy="named", strategy="only") == 5
    assert of(found, "conclave_cost_usd_total", **called) == pytest.approx(spent["usd"])
    assert of(found, "conclave_tokens_total", expert="it", direction="output") == spent["n"]
    assert of(found, "conclave_expert_loaded", expert="it") == 1
    assert of(found, "conclave_judged_answers") == 1
    assert of(found, "conclave_right_answers") == 0.5  # the latest verdict
    usd = of(found, "conclave_judged_cost_usd")
    assert of(found, "conclave_cost_of_pass_usd") == pytest.approx(usd / 0.5)


def test_how_right_arms_were_is_told_beside_what_was_expected(
    ledger: Ledger, fitted: Fitted
) -> None:
    system = made(ledger, fitted)
    with TestClient(create_app(system, Config())) as client:
        for i in range(12):
            judged(system, i, 0.0, caller=str(i // 4))
        system.learn()
        found = samples(client.get("/metrics").text)
    assert of(found, "conclave_right_recent_ratio", arm="sums") < 0.1
    assert of(found, "conclave_right_fitted_ratio", arm="sums") > 0.5
    assert of(found, "conclave_right_drift", arm="sums") == 1
    assert ("conclave_cost_of_pass_usd", ()) not in found  # nobody was right: it has no price


def test_metrics_are_for_keys_that_are_for_them(ledger: Ledger, tmp_path: Path) -> None:
    config = Config(data_dir=tmp_path)
    with closing(open_keys(config)) as store:
        secrets = {}
        for name, routes in (("asks", ASKING), ("watches", {"metrics"})):
            key, secrets[name] = new_key(name, now=0.0, routes=routes)
            store.add(key)
    with TestClient(create_app(make_conclave(ledger), config)) as client:
        told = {
            name: client.get("/metrics", headers={"authorization": f"Bearer {secret}"})
            for name, secret in {**secrets, "nobody": "x"}.items()
        }
        of_metrics = samples(told["watches"].text)
    assert {name: r.status_code for name, r in told.items()} == {
        "asks": 403,
        "watches": 200,
        "nobody": 401,
    }
    assert of(of_metrics, "conclave_requests_total", route="metrics", status="403") == 1
    assert not any(secret in told["watches"].text for secret in secrets.values())
