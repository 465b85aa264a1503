"""``conclave init`` with experts: what it finds out, what it leaves to its owner."""

from __future__ import annotations

import http.server
import importlib.util
import json
import shutil
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from experts.bundled import FOLDER
from experts.errors import BadModel, ConfigError, UnknownPrice, UserError
from experts.remote.litellm_prices import listed
from orchestrator.cli.command import app
from orchestrator.config import UNFILLED, VLLMExpertSettings, load_config
from orchestrator.pool import make_experts
from tests.engines import adapter_folder, model_folder

NEEDS_LITELLM = pytest.mark.skipif(
    importlib.util.find_spec("litellm") is None, reason="the extra litellm is not installed"
)
Serve = Callable[[object], str]


@pytest.fixture
def serve() -> Iterator[Serve]:
    """A server whose every GET is answered with a status or a JSON body; returns its URL."""
    servers: list[http.server.ThreadingHTTPServer] = []

    def start(reply: object) -> str:
        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.send_response(reply if isinstance(reply, int) else 200)
                self.send_header("location", "/elsewhere")
                self.end_headers()
                self.wfile.write(b"" if isinstance(reply, int) else json.dumps(reply).encode())

            def log_message(self, *args: object) -> None:
                pass

        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        servers.append(server)
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        return f"http://127.0.0.1:{server.server_port}/v1"

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


MODELS = {
    "data": [
        {"id": "org/My Model", "max_model_len": 512},
        {"id": "other/My Model"},
        {"id": "conclave"},
    ]
}


def init(*arguments: str) -> str:
    """What is written. Raises what the command raises."""
    result = CliRunner().invoke(app, ["init", *arguments], catch_exceptions=False)
    assert result.exit_code == 0
    return Path("conclave.yaml").read_text()


def fill_in() -> None:
    path = Path("conclave.yaml")
    path.write_text(path.read_text().replace(UNFILLED, "0.5"))


def test_every_model_of_a_server_is_an_expert_once_its_price_is_filled_in(serve: Serve) -> None:
    text = init("--openai", serve(MODELS))
    assert "kind: bundled " not in text.replace("# - kind", "")
    with pytest.raises(ConfigError, match=r"line \d+, experts.0.openai.prices.* not filled in yet"):
        load_config()
    fill_in()
    cards = [e.card for e in make_experts(load_config()).values()]
    assert [c.name for c in cards] == ["My-Model", "My-Model-2", "conclave-2"]
    assert cards[0].context_tokens == 512
    assert {c.prices.input_usd_per_mtok for c in cards} == {0.5}


def test_some_models_of_a_server_beside_the_bundled_experts(serve: Serve) -> None:
    init("--openai", serve(MODELS), "--model", "conclave", "--bundled")
    fill_in()
    assert [n for n in make_experts(load_config()) if n not in ("words", "units")][
        -1
    ] == "conclave-2"


@pytest.mark.parametrize(
    ("reply", "complaint"),
    [
        (401, "HTTP 401. Name the variable"),
        (404, "HTTP 404"),
        (302, "HTTP 302"),
        ({"data": []}, "lists no models"),
        ({"models": []}, "does not list models"),
        ("hello", "does not list models"),
    ],
)
def test_a_server_that_does_not_tell_its_models_is_refused(
    serve: Serve, reply: object, complaint: str
) -> None:
    with pytest.raises(UserError, match=complaint):
        init("--openai", serve(reply))
    assert not Path("conclave.yaml").exists()


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (("--openai", "http://127.0.0.1:9/v1"), "Cannot reach http://127.0.0.1:9/v1/models"),
        (("--openai", "localhost:9/v1"), "is no URL"),
        (("--openai", "http://127.0.0.1:9/v1", "--api-key-env", "NO_SUCH"), "NO_SUCH is not set"),
        (("--local", "nowhere"), "has no config.json"),
        (("--no-bundled",), "leaves nobody to ask"),
    ],
)
def test_what_cannot_be_an_expert_is_refused(arguments: tuple[str, ...], complaint: str) -> None:
    with pytest.raises(UserError, match=complaint):
        init(*arguments)


def test_an_unknown_model_of_a_server_is_refused(serve: Serve) -> None:
    with pytest.raises(UserError, match="Did you mean 'conclave'"):
        init("--openai", serve(MODELS), "--model", "conclav")


def test_a_local_model_is_written_relative_to_the_file() -> None:
    shutil.copytree(FOLDER / "words", "models/words")
    assert "folder: models/words" in init("--local", "models/words")
    fill_in()
    [expert] = make_experts(load_config()).values()
    assert (expert.card.name, expert.card.kind) == ("words", "local")


def test_models_and_adapters_for_engines_fit_the_slot_that_is_written() -> None:
    for name in ("logic", "words"):
        model_folder(Path(), name, {})
    adapter_folder(Path(), "polite", base="logic", rank=32, answers={})
    text = init("--vllm", "polite", "--vllm", "logic", "--vllm", "words")
    assert "memory_gb: 0.1 " in text
    assert "max_lora_rank: 32" in text
    fill_in()
    config = load_config()
    bases = {e.name: e.base for e in config.experts if isinstance(e, VLLMExpertSettings)}
    assert bases == {"logic": None, "words": None, "polite": "logic"}
    assert list(make_experts(config)) == ["logic", "words", "polite"]


def test_an_adapter_without_its_model_is_refused() -> None:
    adapter_folder(Path(), "polite", base="logic", answers={})
    with pytest.raises(BadModel, match=r"made for logic\. Of the models .* it fits none"):
        init("--vllm", "polite")
    for name in ("countries", "units"):  # it fits both, and was made for neither
        model_folder(Path(), name, {})
    with pytest.raises(BadModel, match="it fits countries, units"):
        init("--vllm", "polite", "--vllm", "countries", "--vllm", "units")


@NEEDS_LITELLM
def test_litellm_models_have_its_prices_with_their_source() -> None:
    text = init("--litellm", "openai/gpt-4o-mini")
    assert "0.15 $ in, 0.6 $ out" in text
    [expert] = make_experts(load_config()).values()
    card = expert.card
    assert (card.prices.input_usd_per_mtok, card.prices.output_usd_per_mtok) == (0.15, 0.6)
    assert card.context_tokens == 128_000
    assert "LiteLLM" in card.price_source
    assert "gpt-4o-mini" in card.price_source


@NEEDS_LITELLM
def test_what_litellm_does_not_know_is_left_to_its_owner() -> None:
    init("--litellm", "openai/no-such-model")
    with pytest.raises(ConfigError, match="not filled in yet"):
        load_config()
    path = Path("conclave.yaml")
    path.write_text("\n".join(x for x in path.read_text().splitlines() if UNFILLED not in x))
    with pytest.raises(UnknownPrice, match=r"Expert 'no-such-model': LiteLLM .* does not know"):
        make_experts(load_config())


@NEEDS_LITELLM
def test_a_zero_in_litellms_table_is_no_price() -> None:
    with pytest.raises(UnknownPrice, match="no price above 0"):
        listed("sample_spec", "install")


def test_litellms_price_of_cached_input_is_taken_where_it_tells_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    plain = {"input_cost_per_token": 1e-6, "output_cost_per_token": 4e-6}
    table = {
        "tells": {**plain, "cache_read_input_token_cost": 1e-7},
        "silent": plain,
        "free": {**plain, "cache_read_input_token_cost": 0},
        "dearer": {**plain, "cache_read_input_token_cost": 2e-6},
    }
    monkeypatch.setattr("experts.remote.litellm_prices._table", lambda: table)
    told = {name: listed(name, "install").prices.cached_input_usd_per_mtok for name in table}
    assert told == {"tells": 0.1, "silent": None, "free": None, "dearer": None}


def test_litellm_that_is_not_installed_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("experts.remote.litellm_prices._table", lambda: None)
    with pytest.raises(ConfigError, match="pip install"):
        init("--litellm", "openai/gpt-4o-mini")
