"""``conclave keys``, and a server that asks for them."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import openai
import pytest

from tests.server import Server

CONCLAVE = str(Path(sys.executable).with_name("conclave"))


def conclave(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [CONCLAVE, *arguments], capture_output=True, text=True, check=False, timeout=60
    )


def test_a_key_is_made_listed_and_revoked(data_dir: Path) -> None:
    options = [
        "--budget-usd",
        "5",
        "--per",
        "day",
        "--requests-per-min",
        "60",
        "--model",
        "generalist",
    ]
    done = conclave("keys", "create", "ann", *options)
    secret = done.stdout.strip()
    assert secret.startswith("ck-")
    # Nowhere on the disk, in whatever file.
    assert not any(secret.encode() in p.read_bytes() for p in data_dir.rglob("*") if p.is_file())
    [told] = json.loads(conclave("keys", "list", "--json").stdout)["keys"]
    assert told["name"] == "ann"
    assert told["allowance"]["budget_usd"] == 5
    assert told["models"] == ["generalist"]
    assert "digest" not in told
    listed = conclave("keys", "list").stdout
    assert "5 a day" in listed
    assert "60 requests/min" in listed
    assert conclave("keys", "revoke", "ann").returncode == 0
    assert "revoked" in conclave("keys", "list").stdout


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["create", "ann", "--model", "generalit"], "Did you mean 'generalist'?"),
        (["create", "ann", "--route", "chats"], "There is no route 'chats'"),
        (["create", "ann", "--per", "year"], "day, week, month, total"),
        (["create", " "], "needs a name"),
        (["revoke", "nobody"], "Unknown key 'nobody'"),
    ],
)
def test_what_cannot_be_is_said(arguments: list[str], says: str) -> None:
    done = conclave("keys", *arguments)
    assert done.returncode == 2
    assert says in done.stderr
    assert "Traceback" not in done.stderr


def test_two_good_keys_have_two_names(data_dir: Path) -> None:
    assert conclave("keys", "create", "ann").returncode == 0
    again = conclave("keys", "create", "ann")
    assert again.returncode == 2
    assert "conclave keys revoke ann" in again.stderr
    assert conclave("keys", "revoke", "ann").returncode == 0
    assert conclave("keys", "create", "ann").returncode == 0


def test_nobody_listens_beyond_this_machine_without_keys() -> None:
    done = conclave("serve", "--host", "0.0.0.0", "--port", "0")
    assert done.returncode == 2
    assert "conclave keys create" in done.stderr
    assert "open_to_all" in done.stderr


def test_the_openai_client_sends_its_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CONCLAVE_HOME", str(tmp_path / "server"))
    secret = conclave("keys", "create", "ann", "--requests-per-min", "1").stdout.strip()
    server = Server(tmp_path / "server")
    try:
        server.wait_until_ready()
        asked = {"model": "arithmetic", "messages": [{"role": "user", "content": "What is 2 + 3?"}]}
        with pytest.raises(openai.AuthenticationError, match="conclave keys create"):
            server.client.chat.completions.create(**asked)
        client = server.client.with_options(api_key=secret)
        assert client.chat.completions.create(**asked).choices[0].message.content
        with pytest.raises(openai.RateLimitError) as refused:
            client.chat.completions.create(**asked)
        assert 1 <= int(refused.value.response.headers["retry-after"]) <= 60
    finally:
        server.stop()
