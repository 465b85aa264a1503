"""What an engine can be told over HTTP, besides answering: pause, swap, sleep, adapters, checks.

vLLM's development routes (``VLLM_SERVER_DEV_MODE=1``), as 0.32 has them. They know no keys, so
engines listen on loopback only. Three traps, each met: ``/sleep`` reads query parameters and
ignores a body; its mode, and that of ``/pause``, is ``abort`` unless said otherwise; a request to
a sleeping engine hangs until it wakes.
"""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from experts.errors import EngineFailed

if TYPE_CHECKING:
    from aiohttp import ClientSession, StreamReader

QUICK_S = 10.0
"""For what needs no weights moved."""
MOVE_S = 600.0
"""For what does: seventy gigabytes from a slow disk."""
_SHOWN_CHARS = 400
_EMPTY_SHA256 = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"


class Control:
    """The routes of one engine. Every method raises EngineFailed when the engine does not answer in
    time or says no."""

    def __init__(self, url: str, session: ClientSession) -> None:
        """url: without ``/v1``."""
        self.url, self._session = url, session

    async def is_healthy(self, timeout_s: float = 2.0) -> bool:
        """Whether it serves. Says nothing about sleep, and little about a stuck engine."""
        try:
            await self._ask("GET", "/health", timeout_s=timeout_s)
        except EngineFailed:
            return False
        return True

    async def models(self) -> dict[str, str]:
        """Folder (or adapter folder) by served name."""
        found = json.loads(await self._ask("GET", "/v1/models"))
        return {m["id"]: str(m.get("root") or "") for m in found["data"]}

    async def pause(self) -> None:
        """Returns when everything that was being generated has ended; nothing is aborted."""
        await self._ask("POST", "/pause", query={"mode": "wait"}, timeout_s=MOVE_S)

    async def resume(self) -> None:
        await self._ask("POST", "/resume")

    async def reload_weights(self, folder: str | None = None) -> None:
        """In place, from a checkpoint of the same family; None reads the present one again.

        One that does not fit kills the engine, so look at its headers first (``checkpoint``).
        """
        kwargs = {} if folder is None else {"weights_path": folder}
        body = {"method": "reload_weights", "kwargs": kwargs}
        await self._ask("POST", "/collective_rpc", body=body, timeout_s=MOVE_S)

    async def reset_prefix_cache(self) -> None:
        """Keys and values of other weights must not be found again."""
        found = json.loads(await self._ask("POST", "/reset_prefix_cache") or b"{}")
        if found.get("success") is False:
            raise EngineFailed(f"The engine at {self.url} did not reset its prefix cache.")

    async def sleep(self, level: int) -> None:
        """1 moves the weights to host memory, 2 drops them; both drop keys and values."""
        query = {"level": str(level), "mode": "wait"}
        await self._ask("POST", "/sleep", query=query, timeout_s=MOVE_S)

    async def wake_up(self, *tags: str) -> None:
        """tags: ``weights``, ``kv_cache``; none wakes all."""
        path = "/wake_up" + ("?" + "&".join(f"tags={t}" for t in tags) if tags else "")
        await self._ask("POST", path, timeout_s=MOVE_S)

    async def is_sleeping(self) -> bool:
        found = json.loads(await self._ask("GET", "/is_sleeping"))
        return bool(found["is_sleeping"])

    async def checksums(self) -> dict[str, str]:
        """sha256 of every tensor that the engine holds, by its name in a checkpoint.

        Fused and sharded tensors have names of their own. Tensors that a backend has packed away
        (linear layers on CPUs) are left out: their digest is that of nothing.
        """
        body = {"action": "checksum"}
        answer = await self._ask("POST", "/weight_checker", body=body, timeout_s=MOVE_S)
        found: dict[str, str] = json.loads(answer)["checksums"]
        # Names are prefixed with the ranks of the worker: dp0:pp0:pcp0:tp0:model.norm.weight
        # and, in an engine that takes adapters, have one more part: q_proj.base_layer.weight
        return {
            k.rpartition(":")[2].replace(".base_layer.", "."): v
            for k, v in found.items()
            if v != _EMPTY_SHA256
        }

    async def load_adapter(self, name: str, folder: str) -> None:
        body = {"lora_name": name, "lora_path": folder}
        await self._ask("POST", "/v1/load_lora_adapter", body=body, timeout_s=MOVE_S)

    async def unload_adapter(self, name: str) -> None:
        await self._ask("POST", "/v1/unload_lora_adapter", body={"lora_name": name})

    async def tokens_done(self) -> float:
        """Tokens read and generated since the start: a stuck engine makes no more of them."""
        total = 0.0
        for line in (await self._ask("GET", "/metrics")).decode().splitlines():
            name, _, value = line.rpartition(" ")
            if name.startswith(("vllm:prompt_tokens_total", "vllm:generation_tokens_total")):
                total += float(value)
        return total

    async def complete(
        self, body: Mapping[str, Any], *, timeout_s: float | None = None
    ) -> dict[str, Any]:
        """``/v1/completions``, not streamed."""
        answer = await self._ask("POST", "/v1/completions", body=body, timeout_s=timeout_s)
        found: dict[str, Any] = json.loads(answer)
        return found

    @asynccontextmanager
    async def posted(self, path: str, body: Mapping[str, Any]) -> AsyncGenerator[StreamReader]:
        """The lines of an answer, as they come. Leaving it early hangs up, and the engine stops."""
        import aiohttp

        try:
            async with self._session.post(
                self.url + path, json=body, timeout=aiohttp.ClientTimeout(total=None)
            ) as response:
                if response.status != 200:
                    raise Refused(path, response.status, await response.read())
                yield response.content
        except (aiohttp.ClientError, OSError) as error:
            raise EngineFailed(f"{path}: {type(error).__name__}: {error}") from None

    async def _ask(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        body: Mapping[str, Any] | None = None,
        timeout_s: float | None = QUICK_S,
    ) -> bytes:
        import aiohttp

        try:
            async with self._session.request(
                method,
                self.url + path,
                params=query,
                json=body,
                timeout=aiohttp.ClientTimeout(total=timeout_s),
            ) as response:
                answer = await response.read()
                status = response.status
        except TimeoutError:
            raise EngineFailed(f"{path} did not answer within {timeout_s:g} s.") from None
        except (aiohttp.ClientError, OSError) as error:
            raise EngineFailed(f"{path}: {type(error).__name__}: {error}") from None
        if status != 200:
            raise Refused(path, status, answer)
        return answer


class Refused(EngineFailed):
    """The engine answered, and said no."""

    def __init__(self, path: str, status: int, body: bytes) -> None:
        self.status = status
        try:
            self.reason = str(json.loads(body)["error"]["message"])
        except (ValueError, KeyError, TypeError):
            self.reason = body.decode("utf-8", "replace")
        super().__init__(f"{path}: {self.reason[:_SHOWN_CHARS]} (HTTP {status})")
