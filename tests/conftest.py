"""Fixtures: pools of scripted experts, a ledger, and a data folder that is nobody's own."""

from __future__ import annotations

import os

# As the command does (orchestrator/cli), before anything imports torch.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("HF_HUB_OFFLINE", "1")

import multiprocessing
from collections.abc import Iterator
from contextlib import chdir
from multiprocessing import forkserver
from multiprocessing.context import ForkServerContext
from pathlib import Path

import pytest
from hypothesis import settings

from orchestrator.ledger import Ledger
from tests.server import Server

# What a test takes says what else the machine does: time is measured in benchmarks.
settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")


@pytest.fixture(autouse=True)
def data_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Conclave's data folder, fresh for every test."""
    folder = tmp_path / "conclave-home"
    monkeypatch.setenv("CONCLAVE_HOME", str(folder))
    monkeypatch.chdir(tmp_path)
    return folder


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One server for all tests that ask it something; those that stop one start their own."""
    server = Server(tmp_path_factory.mktemp("server"))
    try:
        server.wait_until_ready()
        yield server
    finally:
        server.stop()


@pytest.fixture(scope="session")
def processes() -> ForkServerContext:
    """Processes that need not import anything: a kill should hit the work. There is one fork server
    in a process, so it knows what all tests need."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(
        [
            "tests.orchestrator.batch.batches",
            "tests.orchestrator.runs.relays",
            "tests.orchestrator.ledger.test_opening",
            "tests.orchestrator.test_idempotency",
            "langgraph.checkpoint.sqlite.aio",
            "langgraph.func",
            "langsmith",
            "uvicorn",
        ]
    )
    # It looks for modules in the folder that it is started in, and says nothing when it finds none.
    with chdir(Path(__file__).parent.parent):
        forkserver.ensure_running()
    return context


@pytest.fixture
def ledger() -> Iterator[Ledger]:
    with Ledger(":memory:") as ledger:
        yield ledger
