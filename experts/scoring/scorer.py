"""The scorer of one model: a small trained net over what its answers look like from inside."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from experts.errors import BadScorer
from experts.local.decode import Token
from experts.scoring.card import WEIGHTS_FILE, ScorerCard, read_scorer_card
from experts.scoring.pooling import N_NUMBERS, Pool, listening, n_features
from experts.weights_file import fill

_N_HIDDEN, _DROPOUT = 32, 0.3
_MOST_ODDS = 8.0
"""Surer than 3000 to 1 nobody is who has learned from thousands of answers."""


class ScorerNet(nn.Module):
    """Log-odds of being right, (n,), of features, (n, n_features)."""

    centre: torch.Tensor
    scale: torch.Tensor
    calibration: torch.Tensor
    """Scale and shift of the log-odds, fitted on answers that the rest was not."""

    def __init__(self, width: int) -> None:
        super().__init__()
        n = n_features(width)
        self.register_buffer("centre", torch.zeros(n))
        self.register_buffer("scale", torch.ones(n))
        self.into = nn.Linear(n, _N_HIDDEN)
        self.out = nn.Linear(_N_HIDDEN, 1)
        self.numbers = nn.Linear(N_NUMBERS, 1, bias=False)
        self.drop = nn.Dropout(_DROPOUT)
        self.register_buffer("calibration", torch.tensor([1.0, 0.0]))

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        x = (features - self.centre) / self.scale
        hidden = nn.functional.gelu(self.into(self.drop(x)))
        raw = (self.out(hidden) + self.numbers(x[:, -N_NUMBERS:]))[:, 0]
        odds: torch.Tensor = raw * self.calibration[0] + self.calibration[1]
        return odds


class AnswerScorer:
    """A net and its card."""

    def __init__(self, card: ScorerCard, net: ScorerNet) -> None:
        self.card, self._net = card, net.eval()

    @classmethod
    def load(cls, folder: Path, model_folder: Path) -> AnswerScorer:
        """Raises BadScorer for a folder that holds none, or the scorer of another model."""
        card = read_scorer_card(folder, model_folder)
        net = ScorerNet(card.width)
        try:
            fill(net, folder / WEIGHTS_FILE)
        except ValueError as error:
            raise BadScorer(f"{error} Train it anew: conclave latent scorer.") from None
        return cls(card, net)

    def save(self, folder: Path) -> None:
        from safetensors.torch import save_file

        folder.mkdir(parents=True, exist_ok=True)
        save_file(
            {k: v.contiguous() for k, v in self._net.state_dict().items()}, folder / WEIGHTS_FILE
        )
        self.card.save(folder)

    @torch.inference_mode()
    def odds(self, features: torch.Tensor) -> torch.Tensor:
        """(n, n_features) to log-odds, (n,)."""
        odds: torch.Tensor = self._net(features)
        return odds.clamp(-_MOST_ODDS, _MOST_ODDS)

    def scored(
        self, model: Any, decoding: Generator[list[Token]], n_rows: int
    ) -> Generator[list[Token]]:
        """The same tokens, each with what is thought of its row's answer up to it."""
        pool = Pool(n_rows, self.card.width)
        with listening(model) as heard, closing(decoding):
            for tokens in decoding:
                odds = self.odds(pool.add(tokens, heard.states.cpu())).tolist()
                yield [replace(t, own_odds=o) for t, o in zip(tokens, odds, strict=True)]
