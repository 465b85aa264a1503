"""One call to an engine, in tokens both ways (``/v1/completions`` with token ids).

Not ``/v1/chat/completions``: an engine keeps the tokenizer and the chat template that it was
started with, also when other weights are put in place. So each model's own are applied here, and
what comes back are ids, too. Only guided output needs an engine's tokenizer (``extra``); engines of
models without it are started without any (``--skip-tokenizer-init``).
"""

from __future__ import annotations

import json
import math
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from experts.errors import EngineFailed
from experts.values import Sampling
from experts.vllm.control import Control, Refused
from experts.vllm.extra import completion_fields, n_alternatives


class Token(NamedTuple):
    """One that was generated."""

    id: int
    logprob: float
    """Natural, at temperature 1, before penalties; among what guidance allows, where there is
    some."""
    top: tuple[tuple[int, float], ...] = ()
    """Likeliest ids at its place with theirs, where the call asks for them."""


Tokens = list[Token]

_NO_NUMBER = "not JSON compliant"
"""What becomes of NaN in an answer of vLLM 0.32 that comes whole: an error of its JSON writer."""
_BROKEN = (
    "The model computes log-probabilities that are no numbers, so its words mean nothing. Its "
    "weights are broken, or too large for its precision: try `args: [--dtype, bfloat16]`."
)
_SHOWN_CHARS = 400


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
            **completion_fields(self.sampling.extra),
        }


class Unusable(EngineFailed):
    """The engine answered, and its answer is none: asked again, it would say the same."""


async def generate(control: Control, model: str, asked: Asked) -> Tokens:
    """All tokens at once. Raises EngineFailed (Refused where the engine said why, Unusable where
    its answer is none)."""
    try:
        return _tokens(await control.complete(asked.body(model)), asked)
    except Refused as refusal:
        if _NO_NUMBER in refusal.reason:
            raise Unusable(_BROKEN) from None
        raise


async def stream(control: Control, model: str, asked: Asked) -> AsyncGenerator[Tokens]:
    """Tokens as they come; closing it aborts the request. Raises EngineFailed, as ``generate``."""
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
                yield _tokens(chunk, asked)
    if not ended:
        raise EngineFailed("The stream broke off.")


async def known_answer(
    control: Control, model: str, prompt: Sequence[int], max_tokens: int
) -> Tokens:
    """Greedy, with the likeliest tokens at each place: the same weights give the same answer."""
    asked = Asked(
        prompt=tuple(prompt),
        end_ids=frozenset(),
        max_tokens=max_tokens,
        sampling=Sampling(extra=(("top_logprobs", "3"),)),
    )
    return await generate(control, model, asked)


def _tokens(answer: dict[str, Any], asked: Asked) -> Tokens:
    n_top = n_alternatives(asked.sampling.extra)
    try:
        choice = answer["choices"][0]
        ids = choice["token_ids"] or []
        told = choice.get("logprobs") or {}
        logprobs = told.get("token_logprobs") or []
        # A stream tells NaN as null.
        if not all(p is not None and math.isfinite(p) for p in logprobs):
            raise Unusable(_BROKEN)
        tops = [_top(t, n_top) for t in told["top_logprobs"]] if n_top and ids else [()] * len(ids)
        return [Token(*row) for row in zip(ids, logprobs, tops, strict=True)]
    except (KeyError, IndexError, TypeError, ValueError) as error:
        raise Unusable(
            f"The engine's answer cannot be read: {error!r}: {str(answer)[:_SHOWN_CHARS]}"
        ) from None


def _top(told: dict[str, float], n: int) -> tuple[tuple[int, float], ...]:
    """Of ``{"token_id:17": -0.5, ...}``, likeliest first. vLLM tells of the token itself, too, also
    where it is not among the ``n`` likeliest."""
    pairs = [(int(name.rpartition(":")[2]), p) for name, p in told.items()]
    return tuple(sorted(pairs, key=lambda pair: -pair[1])[:n])
