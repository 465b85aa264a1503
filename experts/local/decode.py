"""Batched decoding of a Hugging Face causal LM, one step at a time.

``decode`` is a generator: each step yields the next token of every unfinished row, so that one loop
serves batches, streams and cancellation. Sampling is seeded per row and does not depend on what
else is in the batch. Prompts are token ids; text, prices and queues belong to the caller.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from experts.values import Sampling

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True, kw_only=True, slots=True)
class Token:
    """One generated token."""

    row: int
    token_id: int
    logprob: float
    """Log-probability (natural) under the model at temperature 1."""
    is_end: bool
    """The row ended with this token; an end token is not part of the text."""


def decode(
    model: Any,
    prompts: Sequence[Sequence[int]],
    samplings: Sequence[Sampling],
    *,
    end_ids: frozenset[int],
    pad_id: int,
) -> Generator[list[Token]]:
    """Yield, for each step, one token of each row that is still going.

    Rows are left-padded to one length and leave the batch when they end; ``stop`` sequences are
    the caller's, who sees text. Close the generator to stop early.
    """
    import torch
    from transformers import DynamicCache

    width = max(len(p) for p in prompts)
    ids = torch.tensor([[pad_id] * (width - len(p)) + list(p) for p in prompts])
    mask = torch.tensor([[0] * (width - len(p)) + [1] * len(p) for p in prompts])
    positions = (mask.cumsum(1) - 1).clamp(min=0)
    cache = DynamicCache(config=model.config)
    rows = list(range(len(prompts)))
    generators = [torch.Generator().manual_seed(s.seed) for s in samplings]
    n_done = 0
    with torch.inference_mode():
        while rows:
            logits = model(
                input_ids=ids.to(model.device),
                attention_mask=mask.to(model.device),
                position_ids=positions.to(model.device),
                past_key_values=cache,
                use_cache=True,
                logits_to_keep=1,
            ).logits[:, -1]
            logprobs = torch.log_softmax(logits.float(), dim=-1).cpu()
            chosen = _choose(logprobs, [samplings[r] for r in rows], [generators[r] for r in rows])
            n_done += 1
            step = [
                Token(
                    row=row,
                    token_id=int(token),
                    logprob=float(logprobs[i, token]),
                    is_end=int(token) in end_ids or n_done >= samplings[row].max_tokens,
                )
                for i, (row, token) in enumerate(zip(rows, chosen, strict=True))
            ]
            yield step
            keep = [i for i, token in enumerate(step) if not token.is_end]
            if len(keep) < len(rows):
                rows = [rows[i] for i in keep]
                if not rows:
                    return
                cache.batch_select_indices(torch.tensor(keep, device=model.device))
                mask, positions, chosen = mask[keep], positions[keep], chosen[keep]
            ids = chosen[:, None]
            mask = torch.cat([mask, torch.ones(len(rows), 1, dtype=mask.dtype)], dim=1)
            positions = positions[:, -1:] + 1


def _choose(
    logprobs: torch.Tensor, samplings: list[Sampling], generators: list[torch.Generator]
) -> torch.Tensor:
    """Next token of each row, (n_rows,); nucleus sampling where the temperature is above 0."""
    import torch

    chosen = logprobs.argmax(dim=-1)
    for i, sampling in enumerate(samplings):
        if sampling.temperature <= 0:
            continue
        p = torch.softmax(logprobs[i] / sampling.temperature, dim=-1)
        ordered, index = p.sort(descending=True)
        before = ordered.cumsum(0) - ordered
        ordered = torch.where(before < sampling.top_p, ordered, 0.0)
        pick = torch.multinomial(ordered, 1, generator=generators[i])
        chosen[i] = index[pick]
    return chosen
