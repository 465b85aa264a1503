"""``/v1/runs`` and ``/v1/human``."""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from experts.errors import NotFitted
from experts.human.desk import Desk
from orchestrator.conclave import Conclave
from orchestrator.config import DEFAULT_POLICIES, Config
from orchestrator.ledger import Ledger
from orchestrator.rest.app import create_app
from orchestrator.runs.journal import Journal
from orchestrator.runs.runs import Runs
from skills.embedders import HashingEmbedder
from tests.orchestrator.runs.relays import Folder, opened, person, scripted, start


@pytest.fixture
def client(tmp_path: Path) -> Iterator[TestClient]:
    with serving(Folder(tmp_path / "data")) as client:
        yield client


@contextmanager
def serving(folder: Folder, *, deadline_s: float = 1e6, **runs: Any) -> Iterator[TestClient]:
    """deadline_s: of the person. runs: the configuration's section."""
    config = Config(data_dir=folder.path, runs=runs)
    experts = [*scripted(folder), person(folder, deadline_s=deadline_s)]
    with Ledger(config.ledger_path) as ledger:
        conclave = Conclave(
            {e.card.name: e for e in experts},
            ledger,
            embedder=HashingEmbedder(),
            fitted=NotFitted("Nothing is fitted."),
            policies=DEFAULT_POLICIES,
            host_usd_per_s=0.0,
        )
        with TestClient(create_app(conclave, config)) as client:
            yield client


def begun(client: TestClient, model: str) -> str:
    response = client.post("/v1/runs", json={"model": model, "messages": MESSAGES})
    assert response.status_code == 202, response.text
    assert response.json()["state"] == "running"
    return str(response.json()["run_id"])


MESSAGES = [{"role": "user", "content": "What is love?"}]


def until(client: TestClient, run_id: str, state: str) -> dict[str, Any]:
    """The run, when it has come to that; every request lets the server's work go on."""
    for _ in range(10_000):
        told: dict[str, Any] = client.get(f"/v1/runs/{run_id}").json()
        if told["state"] == state:
            return told
    raise AssertionError(told)


def test_a_run_goes_on_in_the_background(client: TestClient) -> None:
    run_id = begun(client, "a")
    told = until(client, run_id, "done")
    assert told["answer"]["text"] == "a0(13)"
    assert [c["arm"] for c in told["calls"]] == ["a"]
    [listed] = client.get("/v1/runs").json()["runs"]
    assert (listed["run_id"], listed["cost_usd"]) == (run_id, told["cost_usd"])
    assert client.post(f"/v1/runs/{run_id}/resume").status_code == 202
    assert client.post(f"/v1/runs/{run_id}/cancel").json()["state"] == "done"


def test_a_server_that_starts_goes_on_with_what_was_left(tmp_path: Path) -> None:
    folder = Folder(tmp_path / "data")
    with opened(folder) as runs:
        left, given_up = start(runs), start(runs, "b")
        runs.cancel(given_up)
    with serving(folder) as client:
        assert until(client, left, "done")["answer"]["text"] == "a0(5)"
        assert client.get(f"/v1/runs/{given_up}").json()["state"] == "cancelled"
    assert len(folder.charged) == 1


def test_what_was_left_is_left_where_the_owner_wants_that(tmp_path: Path) -> None:
    folder = Folder(tmp_path / "data")
    with opened(folder) as runs:
        left = start(runs)
    with serving(folder, resume_at_start=False) as client:
        while client.get("/readyz").status_code != 200:
            pass
        assert client.get(f"/v1/runs/{left}").json()["state"] == "stopped"
        assert not folder.charged
        assert client.post(f"/v1/runs/{left}/resume").status_code == 202
        until(client, left, "done")


def test_an_answer_that_arrives_lets_the_run_go_on(client: TestClient) -> None:
    run_id = begun(client, "boss")
    [question_id] = until(client, run_id, "waiting")["waits_for"]
    [question] = client.get("/v1/human").json()["questions"]
    assert (question["question_id"], question["expert"]) == (question_id, "boss")
    assert question["messages"] == MESSAGES
    answered = client.post(f"/v1/human/{question_id}", json={"answer": "A fire."})
    assert answered.json()["state"] == "answered"
    assert until(client, run_id, "done")["answer"]["text"] == "A fire."
    again = client.post(f"/v1/human/{question_id}", json={"answer": "Water."})
    assert again.status_code == 400
    assert "answered already" in again.json()["error"]["message"]


def test_a_run_is_given_up(client: TestClient) -> None:
    run_id = begun(client, "boss")
    until(client, run_id, "waiting")
    assert client.post(f"/v1/runs/{run_id}/cancel").json()["state"] == "cancelled"
    assert client.get("/v1/human").json() == {"questions": []}


@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        ("GET", "/v1/runs/run-1", None, 404),
        ("POST", "/v1/runs/run-1/resume", None, 404),
        ("POST", "/v1/runs/run-1/cancel", None, 404),
        ("POST", "/v1/human/h-1", {"answer": "x"}, 404),
        ("POST", "/v1/human/h-1", {}, 400),
        ("POST", "/v1/runs", {"model": "nobody", "messages": MESSAGES}, 404),
        ("POST", "/v1/runs", {"model": "a", "messages": []}, 400),
        ("POST", "/v1/runs", {"model": "a", "messages": MESSAGES, "stream": True}, 400),
    ],
)
def test_what_cannot_be_done_is_said(
    client: TestClient, method: str, path: str, body: object, status: int
) -> None:
    response = client.request(method, path, json=body)
    assert response.status_code == status, response.text
    assert response.json()["error"]["message"]


def test_a_file_that_others_keep_locked_is_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = Folder(tmp_path / "data")
    locked = [sqlite3.OperationalError("database is locked")] * 2
    pauses: list[float] = []
    original = Journal.begin

    def begin(self: Journal, *arguments: Any) -> None:
        if locked:
            raise locked.pop()
        original(self, *arguments)

    async def pause(seconds: float) -> None:
        pauses.append(seconds)

    monkeypatch.setattr(Journal, "begin", begin)
    monkeypatch.setattr("orchestrator.rest.runs.pause", pause)
    with serving(folder) as client:
        until(client, begun(client, "a"), "done")
    assert pauses == [1, 10]
    assert len(folder.charged) == 1


def test_a_server_without_runs_has_no_files_of_them(client: TestClient, tmp_path: Path) -> None:
    asked = {"model": "a", "messages": MESSAGES}
    assert client.post("/v1/chat/completions", json=asked).status_code == 200
    assert not (tmp_path / "data" / "runs").exists()


@pytest.fixture
def looks_often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("orchestrator.rest.runs._LOOK_S", 0.01)


@pytest.mark.usefixtures("looks_often")
@pytest.mark.parametrize("resume_at_start", [True, False])
def test_a_deadline_wakes_the_run_that_waits(tmp_path: Path, resume_at_start: bool) -> None:
    folder = Folder(tmp_path / "data")
    with serving(folder, deadline_s=0.2, resume_at_start=resume_at_start) as client:
        told = until(client, begun(client, "boss"), "failed")
    assert "no answer in time" in told["problem"]


@pytest.mark.usefixtures("looks_often")
def test_an_answer_that_was_given_elsewhere_wakes_the_run_that_waits(tmp_path: Path) -> None:
    folder = Folder(tmp_path / "data")
    with serving(folder) as client:
        run_id = begun(client, "boss")
        [question_id] = until(client, run_id, "waiting")["waits_for"]
        with closing(Desk(folder.config.desk_path)) as desk:
            desk.answer(question_id, "A fire.")
        assert until(client, run_id, "done")["answer"]["text"] == "A fire."


def test_files_are_not_waited_for_on_the_event_loop(
    client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_id = begun(client, "boss")
    [question_id] = until(client, run_id, "waiting")["waits_for"]
    on_loop: list[str] = []

    def watched(owner: type, method: str) -> None:
        original = getattr(owner, method)

        def called(*arguments: Any, **more: Any) -> Any:
            with contextlib.suppress(RuntimeError):
                asyncio.get_running_loop()
                on_loop.append(method)
            return original(*arguments, **more)

        monkeypatch.setattr(owner, method, called)

    for method in ("view", "views", "cancel", "open_ones", "start"):
        watched(Runs, method)
    for method in ("waiting", "answer"):
        watched(Desk, method)
    client.get("/v1/runs")
    client.get("/v1/human")
    client.get(f"/v1/runs/{run_id}")
    client.post(f"/v1/human/{question_id}", json={"answer": "A fire."})
    until(client, run_id, "done")
    client.post(f"/v1/runs/{begun(client, 'a')}/cancel")
    assert on_loop == []
