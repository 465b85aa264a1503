"""The wire of a latent expert whose members run on engines: soft prefix on unmodified vLLM.

A peer is a vLLM of the pooling kind that gives a state for each token (``--runner pooling --convert
embed --pooler-config '{"task": "token_embed"}'``); a primary takes prompt embeddings
(``--enable-prompt-embeds``). Here stay the router, the head, and of each member its tokens and its
embedding table; no layer of a member runs in this process. The other forms reach into a model.
"""

from __future__ import annotations

import asyncio
import base64
import io
import threading
from collections.abc import AsyncGenerator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from experts.errors import ConclaveError
from experts.remote.per_loop import PerLoop
from experts.remote.wire import Reply, WireError
from experts.values import Call, FinishReason, Usage

if TYPE_CHECKING:
    import torch
    from aiohttp import ClientSession

    from experts.latent.net.table import TableTeam

_CONNECT_S = 10.0


@dataclass(frozen=True, kw_only=True, slots=True)
class EngineUrls:
    """Where a member runs; up to, and without, ``/v1``."""

    pooling: str | None = None
    """Gives its states: needed where it is a peer."""
    completions: str | None = None
    """Takes prompt embeddings: needed where it is the primary."""
    model: str
    """The engines' name for it."""


class SoftPrefixWire:
    """As ``experts.remote.wire.Wire``."""

    def __init__(
        self, head: Path, folders: Mapping[str, Path], urls: Mapping[str, EngineUrls]
    ) -> None:
        self._head, self._folders, self._urls = head, dict(folders), dict(urls)
        self._team: TableTeam | None = None
        self._lock = threading.Lock()
        self._sessions = PerLoop(_session, _close)

    async def ask(self, call: Call) -> Reply:
        team = await asyncio.to_thread(self._loaded)
        try:
            route = team.route(call.messages)
            names = (route.primary, *route.peers)
            prompts = {name: team.members[name].prompt(call.messages) for name in names}
            read = {peer: team.peer_ids(peer, prompts[peer]) for peer in route.peers}
        except (ConclaveError, ValueError) as error:
            raise WireError(str(error), code="refused") from None
        states = await asyncio.gather(*(self._states(peer, ids) for peer, ids in read.items()))
        embeddings = team.prompt_embeddings(
            route,
            prompts,
            {p: s[-team.card.n_slots :] for p, s in zip(route.peers, states, strict=True)},
        )
        told = await self._completed(route.primary, embeddings, call)
        n_read = len(embeddings) + sum(map(len, read.values()))
        return _reply(told, n_read)

    async def stream(self, call: Call) -> AsyncGenerator[str | Reply]:
        """All at once: answers are short beside what leads to them."""
        reply = await self.ask(call)
        if reply.text:
            yield reply.text
        yield reply

    def _loaded(self) -> TableTeam:
        from experts.latent.net.table import TableTeam

        with self._lock:
            if self._team is None:
                try:
                    self._team = TableTeam(self._head, self._folders)
                except Exception as error:  # a broken folder: files, tokenizer, weights
                    raise WireError(f"the head cannot be loaded: {error}") from None
            return self._team

    async def _states(self, peer: str, ids: list[int]) -> torch.Tensor:
        """(len(ids), width)."""
        import torch

        urls = self._of(peer)
        if urls.pooling is None:
            raise WireError(
                f"{peer} is needed as a peer, and has no pooling engine", code="refused"
            )
        # Without its last activation, which would make all states the same length.
        body = {"model": urls.model, "input": ids, "use_activation": False, "task": "token_embed"}
        told = await self._post(f"{urls.pooling}/pooling", body)
        try:
            states = torch.tensor(told["data"][0]["data"])
        except (KeyError, IndexError, TypeError, ValueError):
            states = torch.tensor([])
        width = self._loaded().members[peer].width
        if states.shape != (len(ids), width) or not states.isfinite().all():
            raise WireError(
                f"{urls.pooling} does not give {width} numbers for each token. Start it with "
                '--runner pooling --convert embed --pooler-config \'{"task": "token_embed"}\'.'
            )
        return states

    async def _completed(self, primary: str, embeddings: torch.Tensor, call: Call) -> Any:
        import torch

        urls, sampling = self._of(primary), call.sampling
        if urls.completions is None:
            raise WireError(
                f"{primary} is needed as the primary, and has no engine for completions",
                code="refused",
            )
        file = io.BytesIO()
        torch.save(embeddings.contiguous().clone(), file)  # vLLM's format; it loads weights only
        body = {
            "model": urls.model,
            "prompt_embeds": base64.b64encode(file.getvalue()).decode(),
            "max_tokens": sampling.max_tokens,
            "temperature": sampling.temperature,
            "top_p": sampling.top_p,
            "seed": sampling.seed,
            "stop": list(sampling.stop) or None,
        }
        return await self._post(f"{urls.completions}/v1/completions", body)

    def _of(self, member: str) -> EngineUrls:
        if member not in self._urls:
            raise WireError(f"no engine runs {member}", code="refused")
        return self._urls[member]

    async def _post(self, url: str, body: Mapping[str, Any]) -> Any:
        import aiohttp

        session = await self._sessions.get()
        try:
            async with session.post(url, json=body, allow_redirects=False) as response:
                if response.status == 200:
                    return await response.json()
                said = (await response.text())[:500]
        except (aiohttp.ClientError, OSError, ValueError) as error:
            raise WireError(
                f"cannot reach {url}: {error}", code="unreachable", is_transient=True
            ) from None
        busy = response.status in (429, 500, 502, 503, 504)
        raise WireError(
            f"{url} answers {response.status}: {said}", is_transient=busy, status=response.status
        )


def _reply(told: Any, n_read: int) -> Reply:
    """Raises WireError for what is no completion; a count that cannot be is none."""
    try:
        choice = told["choices"][0]
        text, ended = choice["text"], choice.get("finish_reason")
        said = (told.get("usage") or {}).get("completion_tokens")
    except (KeyError, IndexError, TypeError, AttributeError):
        text = ended = said = None
    if not isinstance(text, str):
        raise WireError("the engine's answer is not a completion", may_be_paid=True)
    reason: FinishReason = "length" if ended == "length" else "stop"
    usage = None
    if isinstance(said, int) and said >= 0:
        usage = Usage(input_tokens=n_read, output_tokens=said)
    return Reply(text=text, usage=usage, finish_reason=reason)


def _session() -> ClientSession:
    import aiohttp

    return aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=None, sock_connect=_CONNECT_S))


async def _close(session: ClientSession) -> None:
    await session.close()
