"""OpenAI's own client for Node, on its common paths, against the running server.

Needs Node and what ``npm install`` puts beside this file: ``make test-node`` sees to both.
"""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.server import Server

HERE = Path(__file__).parent
pytestmark = pytest.mark.skipif(
    not (HERE / "node_modules").exists(), reason="make test-node installs the client"
)


@pytest.fixture(scope="module")
def seen(server: Server) -> dict[str, Any]:
    node = shutil.which("node")
    assert node, "install Node"
    ran = subprocess.run(
        [node, str(HERE / "paths.mjs"), f"{server.url}/v1"],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    said: dict[str, Any] = json.loads(ran.stdout)
    return said


def test_models(seen: dict[str, Any]) -> None:
    assert {"conclave", "conclave/cheap", "countries"} <= set(seen["models"])
    assert seen["model"] == "countries"


def test_a_completion(seen: dict[str, Any]) -> None:
    assert seen["content"].endswith("Paris")
    assert seen["finish"] == "stop"
    assert seen["usage"]["total_tokens"] > 0
    assert seen["contributors"] == ["countries"]
    assert seen["type"] == "application/json"
    assert seen["n"] == 3


def test_streams(seen: dict[str, Any]) -> None:
    assert "".join(seen["pieces"]) == seen["final"] == seen["content"]
    assert seen["streamed_usage"] == seen["usage"]
    assert seen["left"]


def test_errors_are_the_clients_own(seen: dict[str, Any]) -> None:
    assert seen["unknown"] == ["NotFoundError", 404, "model_not_found", None]
    assert seen["invalid"] == ["BadRequestError", 400, "invalid_value", "temperature"]
    assert seen["empty"][:2] == ["BadRequestError", 400]
