"""What an answer looked like from inside: states pooled over its tokens, as it is being said.

Of each token the state that chose it, before the output layer, and its log-probability. Pooled are
the mean state, the last one, and four numbers: of the log-probabilities mean, least and the log of
their sum's size, which is what routers use where there is no scorer; and how many there were.
Everything is of the answer so far, so that it can be asked after every token.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch

from experts.local.decode import Token

N_NUMBERS = 4


def n_features(width: int) -> int:
    """Of a model of this width: two states, and the numbers."""
    return 2 * width + N_NUMBERS


class Listening:
    """The last states that a model's output layer was given, (n_rows, width)."""

    states: torch.Tensor


@contextmanager
def listening(model: Any) -> Iterator[Listening]:
    """While it is open, each pass of the model is heard."""
    heard = Listening()

    def hear(module: torch.nn.Module, args: tuple[torch.Tensor, ...]) -> None:
        heard.states = args[0][:, -1].float()

    hook = model.get_output_embeddings().register_forward_pre_hook(hear)
    try:
        yield heard
    finally:
        hook.remove()


class Pool:
    """Running sums of the rows of a batch."""

    def __init__(self, n_rows: int, width: int) -> None:
        self._sum = torch.zeros(n_rows, width)
        self._last = torch.zeros(n_rows, width)
        self._logprob, self._least = torch.zeros(n_rows), torch.zeros(n_rows)
        self._count = torch.zeros(n_rows)

    def add(self, tokens: Sequence[Token], states: torch.Tensor) -> torch.Tensor:
        """One more token of some rows, and the states that chose them, (n_tokens, width). Features
        of these rows, (n_tokens, n_features)."""
        rows = torch.tensor([token.row for token in tokens])
        logprobs = torch.tensor([token.logprob for token in tokens])
        states = states.to(self._sum)
        self._sum[rows] += states
        self._last[rows] = states
        self._logprob[rows] += logprobs
        self._least[rows] = torch.minimum(self._least[rows], logprobs)
        self._count[rows] += 1
        count = self._count[rows]
        total = self._logprob[rows]
        numbers = [total / count, self._least[rows], count.log(), torch.log1p(-10 * total)]
        return torch.cat(
            [self._sum[rows] / count[:, None], self._last[rows], torch.stack(numbers, 1)], 1
        )
