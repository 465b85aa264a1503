"""Batched decoding of a Hugging Face causal LM, one step at a time.

``decode`` is a generator: each step yields the next token of every unfinished row, so that one loop
serves batches, streams and cancellation. Sampling is seeded per row and does not depend on what
else is in the batch. Prompts are token ids; text, prices and queues belong to the caller.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Protocol

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
    own_odds: float | None = None
    """As ``Completion.own_odds``, of the answer up to here."""

    def of_row(self, row: int) -> Token:
        """The same token, of a row by another number."""
        return replace(self, row=row)


class Steps(Protocol):
    """A batch of prompts under way."""

    def first(self) -> torch.Tensor:
        """Logits behind each prompt, (n_rows, vocabulary)."""
        ...

    def next(self, chosen: torch.Tensor) -> torch.Tensor:
        """Logits behind one more token of each row, (n_rows,) int64."""
        ...

    def keep(self, rows: torch.Tensor) -> None:
        """Go on with these rows only."""
        ...


def decode(
    steps: Steps, samplings: Sequence[Sampling], *, end_ids: frozenset[int]
) -> Generator[list[Token]]:
    """Yield, for each step, one token of each row that is still going.

    Rows leave the batch when they end; ``stop`` sequences are the caller's, who sees text. Close
    the generator to stop early.
    """
    import torch

    rows = list(range(len(samplings)))
    generators = [torch.Generator().manual_seed(s.seed) for s in samplings]
    n_done = 0
    chosen: torch.Tensor | None = None
    with torch.inference_mode():
        while rows:
            logits = steps.first() if chosen is None else steps.next(chosen)
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
                steps.keep(torch.tensor(keep))
                chosen = chosen[keep]


class ModelSteps:
    """Of one causal LM; rows are left-padded to one length."""

    def __init__(self, model: Any, prompts: Sequence[Sequence[int]], *, pad_id: int) -> None:
        import torch
        from transformers import DynamicCache

        width = max(len(p) for p in prompts)
        self._model = model
        self._ids = torch.tensor([[pad_id] * (width - len(p)) + list(p) for p in prompts])
        self._mask = torch.tensor([[0] * (width - len(p)) + [1] * len(p) for p in prompts])
        self._positions = (self._mask.cumsum(1) - 1).clamp(min=0)
        self._cache = DynamicCache(config=model.config)

    def first(self) -> torch.Tensor:
        device = self._model.device
        logits: torch.Tensor = self._model(
            input_ids=self._ids.to(device),
            attention_mask=self._mask.to(device),
            position_ids=self._positions.to(device),
            past_key_values=self._cache,
            use_cache=True,
            logits_to_keep=1,
        ).logits[:, -1]
        return logits

    def next(self, chosen: torch.Tensor) -> torch.Tensor:
        import torch

        more = torch.ones(len(self._mask), 1, dtype=self._mask.dtype)
        self._ids, self._mask = chosen[:, None], torch.cat([self._mask, more], dim=1)
        self._positions = self._positions[:, -1:] + 1
        return self.first()

    def keep(self, rows: torch.Tensor) -> None:
        self._cache.batch_select_indices(rows.to(self._model.device))
        self._mask, self._positions = self._mask[rows], self._positions[rows]


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
