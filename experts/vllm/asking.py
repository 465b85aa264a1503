"""One call to an engine, in tokens both ways (``/v1/completions`` with token ids).

Not ``/v1/chat/completions``: an engine keeps the tokenizer and the chat template that it was
started with, also when other weights are put in place. So each model's own are applied here, the
engine is started without any (``--skip-tokenizer-init``), and what comes back are ids, too.
"""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass
from typing import Any

from experts.errors import EngineFailed
from experts.values import Sampling
from experts.vllm.control import Control

Tokens = list[tuple[int, float]]
"""Ids, each with its natural log-probability at temperature 1."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Asked:
    """What an engine needs to know of a call."""

    prompt: tuple[int, ...]
    end_ids: frozenset[int]
    max_tokens: int
    """Within the context that the prompt leaves."""
    sampling: Sampling

    def body(self, model: str) -> dict[str, Any]:
        """model: the name under which the engine serves it."""
        return {
            "model": model,
            "prompt": list(self.prompt),
            "max_tokens": self.max_tokens,
            "temperature": self.sampling.temperature,
            "top_p": self.sampling.top_p,
            "seed": self.sampling.seed,
            "logprobs": 0,
            "return_token_ids": True,
            "return_tokens_as_token_ids": True,
            # The end tokens of the model that the engine was started with are not this one's.
            "ignore_eos": True,
            "stop_token_ids": sorted(self.end_ids),
            # Over HTTP, vLLM would take its defaults from the first model's generation_config.json.
            "top_k": 0,
            "repetition_penalty": 1.0,
        }


async def generate(control: Control, model: str, asked: Asked) -> Tokens:
    """All tokens at once. Raises EngineFailed (Refused where the engine said why)."""
    return _tokens(await control.complete(asked.body(model)))


async def stream(control: Control, model: str, asked: Asked) -> AsyncGenerator[Tokens]:
    """Tokens as they come; closing it aborts the request. Raises EngineFailed."""
    body = {**asked.body(model), "stream": True}
    ended = False
    async with control.posted("/v1/completions", body) as lines:
        async for line in lines:
            data = line.removeprefix(b"data:").strip()
            if not line.startswith(b"data:") or not data:
                continue
            if data == b"[DONE]":
                return
            chunk = json.loads(data)
            if "error" in chunk:
                raise EngineFailed(f"The engine gave up within a stream: {chunk['error']}")
            if chunk.get("choices"):
                ended = ended or chunk["choices"][0].get("finish_reason") is not None
                yield _tokens(chunk)
    if not ended:
        raise EngineFailed("The stream broke off.")


async def known_answer(
    control: Control, model: str, prompt: Sequence[int], max_tokens: int
) -> Tokens:
    """Greedy: the same weights give the same answer."""
    asked = Asked(
        prompt=tuple(prompt), end_ids=frozenset(), max_tokens=max_tokens, sampling=Sampling()
    )
    return await generate(control, model, asked)


def _tokens(answer: dict[str, Any]) -> Tokens:
    try:
        choice = answer["choices"][0]
        ids = choice["token_ids"] or []
        logprobs = (choice.get("logprobs") or {}).get("token_logprobs") or []
        return list(zip(ids, logprobs, strict=True))
    except (KeyError, IndexError, TypeError, ValueError) as error:
        raise EngineFailed(f"The engine's answer cannot be read: {error!r}: {answer}") from None
