"""Experts that ``conclave init`` proposes, as lines for conclave.yaml.

What can be found out is: a server's models, their context, LiteLLM's prices. A price that nobody
tells is written as a line to fill in, and no command accepts it until then.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from pathlib import Path
from urllib.parse import urlsplit

from pydantic import BaseModel, ValidationError

from experts.errors import BadModel, ConfigError, UnknownName, UnknownPrice, UserError
from experts.remote.litellm_prices import listed
from experts.remote.litellm_wire import INSTALL
from experts.tools.servers import BUNDLED
from experts.vllm.checkpoint import (
    Adapter,
    Checkpoint,
    check_adapter,
    read_adapter,
    read_checkpoint,
)
from orchestrator.config import DEFAULT_POLICIES, UNFILLED, Config, MCPServerSettings
from orchestrator.tool_pool import tools_of

_TIMEOUT_S = 10
_MAX_BYTES = 10 << 20
_PRICES = f"    prices: {{input_usd_per_mtok: {UNFILLED}, output_usd_per_mtok: {UNFILLED}}}\n"


class ServedModel(BaseModel):
    """What ``/v1/models`` tells of a model."""

    id: str
    max_model_len: int | None = None
    """Context in tokens; vLLM says it, most others do not."""


class _Models(BaseModel):
    data: list[ServedModel]


class Proposals:
    """Entries under ``experts:``, each with a name of its own."""

    def __init__(self) -> None:
        self.entries: list[str] = []
        self.weights_bytes = 0
        """Of the largest model for an engine, an adapter with its base."""
        self.lora_rank = 0
        """The largest of adapters."""
        self.n_tool_servers = 0
        self._names: set[str] = set(DEFAULT_POLICIES)

    def add_server(
        self, base_url: str, *, only: Sequence[str] = (), api_key_env: str | None = None
    ) -> None:
        """An entry for each model, or for those named.

        Raises UserError when the server cannot be asked, and UnknownName for a model that it lacks.
        """
        models = served_models(base_url, api_key_env)
        by_id = {m.id: m for m in models}
        for name in only:
            if name not in by_id:
                raise UnknownName(name, by_id, what=f"model of {base_url}:")
        for found in [by_id[name] for name in only] or models:
            entry = self._head("openai", found.id) + f"    base_url: {_quoted(base_url)}\n"
            entry += f"    model: {_quoted(found.id)}\n"
            if api_key_env:
                entry += f"    api_key_env: {api_key_env}\n"
            if found.max_model_len:
                entry += f"    context_tokens: {found.max_model_len}\n"
            self.entries.append(entry + _PRICES)

    def add_litellm(self, model: str) -> None:
        """An entry with the prices of LiteLLM's table, to be filled in where it has none.

        Raises ConfigError where LiteLLM is not installed.
        """
        entry = self._head("litellm", model) + f"    model: {_quoted(model)}\n"
        try:
            known = listed(model, INSTALL)
        except UnknownPrice:
            self.entries.append(entry + _PRICES)
            return
        p = known.prices
        self.entries.append(
            f"{entry}    # Prices of {known.source}: {p.input_usd_per_mtok:g} $ in, "
            f"{p.output_usd_per_mtok:g} $ out a million tokens. Yours, if they differ:\n"
            f"    # prices: {{input_usd_per_mtok: {p.input_usd_per_mtok:g}, "
            f"output_usd_per_mtok: {p.output_usd_per_mtok:g}}}\n"
        )

    def add_local(self, folder: Path, base: Path) -> None:
        """An entry for a folder; written relative to the file where it lies below it.

        Raises ConfigError for a folder that is no model.
        """
        if not (folder / "config.json").is_file():
            raise ConfigError(
                f"{folder} has no config.json. --local takes a Hugging Face model folder "
                "(config.json, *.safetensors, tokenizer.json)."
            )
        entry = self._head("local", folder.resolve().name) + _folder_line(folder, base)
        self.entries.append(entry + _PRICES)

    def add_tools(self, name: str) -> None:
        """An entry for tools that come with Conclave. Raises UnknownName."""
        if name not in BUNDLED:
            raise UnknownName(name, BUNDLED, what="tool server of Conclave")
        self.n_tool_servers += 1
        self.entries.append(f"  - kind: tools\n    bundled: {name}\n")

    def add_mcp(self, way: str, base: Path) -> None:
        """An entry for an MCP server, a URL or a command with its words; it is asked what it has.

        Raises ConfigError when it cannot be asked.
        """
        words = shlex.split(way)
        if not words:
            raise UserError("--mcp takes a URL, or a command in quotes: --mcp 'npx -y some-server'")
        name = self._name(_name_of_server(words)).replace(".", "-")
        how: dict[str, object] = {"command": words[0], "args": words[1:]}
        if is_url := way.startswith(("http://", "https://")):
            how = {"url": way}
        free = {"call_usd": 0.0}  # listing costs nothing; calling is not done here
        settings = MCPServerSettings.model_validate(
            {"kind": "mcp", "name": name, "prices": free, **how}
        ).placed(base.absolute())
        [found] = tools_of(Config(), [settings], ask_again=True).values()
        found.server.close()
        entry = f"  - kind: mcp\n    name: {name}\n"
        if is_url:
            entry += f"    url: {_quoted(way)}\n"
        else:
            said = ", ".join(json.dumps(word, ensure_ascii=False) for word in words[1:])
            entry += f"    command: {_quoted(words[0])}\n    args: [{said}]\n"
        entry += f"    prices: {{call_usd: {UNFILLED}}}\n"
        listed = ", ".join(e.tool.name for e in found.experts)
        entry += f"    tools: [{listed}]   # all that it has; fewer are quicker to choose from\n"
        for tool, why in found.discovered.refused.items():
            entry += f"    # {tool!r} cannot be used: {why}\n".replace("\n", " ").rstrip() + "\n"
        self.n_tool_servers += 1
        self.entries.append(entry)

    def add_vllm(self, folders: Sequence[Path], base: Path) -> None:
        """Entries for models that Conclave's engines serve, and for LoRA adapters, each on that one
        of the models that it was made for; folders as in ``add_local``.

        Raises BadModel for a folder that is neither, or an adapter that fits none of the models.
        """
        adapters = [f for f in folders if _is_adapter(f)]
        models: dict[str, Checkpoint] = {}
        for folder in folders:
            if folder in adapters:
                continue
            model = read_checkpoint(folder)
            name = self._name(folder.resolve().name)
            models[name] = model
            self.weights_bytes = max(self.weights_bytes, model.n_bytes)
            self.entries.append(
                f"  - kind: vllm\n    name: {name}\n{_folder_line(folder, base)}"
                f"    context_tokens: {model.context_tokens}   # fewer need less memory\n{_PRICES}"
            )
        for folder in adapters:
            adapter = read_adapter(folder)
            on = _base_of(adapter, models)
            self.lora_rank = max(self.lora_rank, adapter.rank)
            with_base = models[on].n_bytes + adapter.n_bytes
            self.weights_bytes = max(self.weights_bytes, with_base)
            entry = self._head("vllm", folder.resolve().name) + _folder_line(folder, base)
            self.entries.append(f"{entry}    base: {on}\n{_PRICES}")

    def _head(self, kind: str, model: str) -> str:
        return f"  - kind: {kind}\n    name: {self._name(model)}\n"

    def _name(self, model: str) -> str:
        """Of a model id: its last part, as it may stand in a request, and not taken yet."""
        last = model.rstrip("/").rpartition("/")[2]
        stem = re.sub(r"[^A-Za-z0-9._-]+", "-", last).lstrip("._-") or "model"
        name, n = stem, 1
        while name in self._names:
            n += 1
            name = f"{stem}-{n}"
        self._names.add(name)
        return name


def _name_of_server(words: Sequence[str]) -> str:
    """The word of a command, or of a URL, that says most: the first that is no option."""
    if words[0].startswith("http"):
        return urlsplit(words[0]).hostname or "tools"
    saying = next((w for w in words[1:] if not w.startswith("-")), words[0])
    return re.sub(r"\.(py|js|mjs|ts|sh)$", "", saying.rstrip("/").rpartition("/")[2])


def _folder_line(folder: Path, base: Path) -> str:
    place, base = folder.resolve(), base.resolve()
    written = place.relative_to(base) if place.is_relative_to(base) else place
    return f"    folder: {_quoted(str(written))}\n"


def _is_adapter(folder: Path) -> bool:
    # Some come with a copy of their base's config.
    return (folder / "adapter_config.json").is_file()


def _base_of(adapter: Adapter, models: Mapping[str, Checkpoint]) -> str:
    """The model of that name, of those whose layers the adapter fits, or the only one of these."""
    fits = []
    for name, model in models.items():
        try:
            check_adapter(adapter, model, max_rank=adapter.rank)
        except BadModel:
            continue
        fits.append(name)
    made_for = adapter.base.rstrip("/").rpartition("/")[2]
    named = [n for n in fits if models[n].folder.resolve().name == made_for]
    if len(named or fits) == 1:
        return (named or fits)[0]
    raise BadModel(
        f"{adapter.folder} is a LoRA adapter, made for {adapter.base or 'it does not say what'}. "
        f"Of the models that were named, it fits {', '.join(fits) or 'none'}. Name the folder of "
        "its base with --vllm, too; where it fits several, the base's must be called as it says."
    )


def served_models(base_url: str, api_key_env: str | None = None) -> list[ServedModel]:
    """The models of a server with OpenAI's protocol.

    Raises UserError, saying what was tried, when there is none, or it does not answer as one.
    """
    url = f"{base_url.rstrip('/')}/models"
    if not url.startswith(("http://", "https://")):
        raise UserError(f"{base_url!r} is no URL. Write it with http:// or https://, up to /v1.")
    headers = {}
    if api_key_env:
        if not (key := os.environ.get(api_key_env)):
            raise UserError(
                f"The environment variable {api_key_env} is not set. Set it: "
                f"export {api_key_env}=..., or leave --api-key-env out."
            )
        headers["authorization"] = f"Bearer {key}"
    request = urllib.request.Request(url, headers=headers)  # noqa: S310 - checked above
    try:
        with _NO_REDIRECTS.open(request, timeout=_TIMEOUT_S) as response:
            body = response.read(_MAX_BYTES)
    except urllib.error.HTTPError as error:
        hint = ""
        if error.code in (401, 403):
            hint = " Name the variable that holds its key with --api-key-env."
        elif error.code == 404 and not base_url.rstrip("/").endswith("/v1"):
            hint = f" Did you mean {base_url.rstrip('/')}/v1?"
        raise UserError(f"{url} answered with HTTP {error.code}.{hint}") from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "reason", error)
        raise UserError(
            f"Cannot reach {url}: {reason}. Start the server, or write the entry by hand: "
            "conclave init shows how."
        ) from None
    try:
        models = _Models.model_validate_json(body).data
    except ValidationError:
        raise UserError(
            f"{url} does not list models as OpenAI's protocol does. Is the URL the one up to /v1?"
        ) from None
    if not models:
        raise UserError(f"{url} lists no models. Load one there first.")
    return models


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    """A redirect would take the key to somebody else."""

    def redirect_request(self, *args: object, **kwargs: object) -> None:
        return None


_NO_REDIRECTS = urllib.request.build_opener(urllib.request.ProxyHandler({}), _NoRedirects)


def _quoted(text: str) -> str:
    """As YAML: plain where nothing in it could be taken for something else."""
    if re.fullmatch(r"[A-Za-z][\w./-]*|https?://[\w./:-]+|/[\w./-]+", text):
        return text
    return json.dumps(text, ensure_ascii=False)
