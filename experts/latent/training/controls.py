"""What a head is shown of its peers when it is to be shown that it needs them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from random import Random

import torch

from experts.latent.net.thoughts import Thought
from experts.latent.plan import Control, TrainingPlan
from experts.latent.training.examples import Examples


def controlled(examples: Examples, plan: TrainingPlan) -> Examples:
    """The examples themselves, or with thoughts that say nothing of the question."""
    if plan.control == "none":
        return examples
    return _Controlled(examples, plan.control, plan.seed)


class _Controlled(Examples):
    def __init__(self, examples: Examples, control: Control, seed: int) -> None:
        self.__dict__.update(examples.__dict__)
        others = list(range(len(examples)))
        Random(f"shuffled/{seed}").shuffle(others)
        self._others, self._control = others, control

    def thought(self, peer: str, rows: Sequence[int]) -> Thought:
        own = super().thought(peer, rows)
        if self._control == "shuffled":
            told = super().thought(peer, [self._others[i] for i in rows]).answer.states
        else:
            told = torch.zeros_like(own.answer.states)
        return replace(own, answer=replace(own.answer, states=told))

    def whole_thoughts(
        self, primary: str, peers: Sequence[str], rows: Sequence[int]
    ) -> dict[str, Thought]:
        """A form that hears whole texts is shown answers alone: the rest would tell."""
        return self.thoughts(peers, rows)
