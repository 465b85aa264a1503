"""What a control does to the thoughts that the primary is given, at evaluation as in training."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import torch

from experts.latent.net.thoughts import Thought
from experts.latent.plan import Control


def altered(thoughts: Mapping[str, Thought], control: Control) -> dict[str, Thought]:
    """``shuffled`` gives each question of the batch the thoughts about the one before it;
    ``zeroed`` leaves nothing of them, not even how long they were."""
    if control == "none":
        return dict(thoughts)
    # A question alone in its batch would be given its own thoughts.
    alone = any(len(t.answer.mask) == 1 for t in thoughts.values())
    alter = _zeroed if control == "zeroed" or alone else _moved
    return {name: alter(thought) for name, thought in thoughts.items()}


def _moved(thought: Thought) -> Thought:
    answer, words = thought.answer, thought.words or []
    # Its places stay: a thought of another question, where that of this one would be.
    moved = replace(answer, states=answer.states.roll(1, 0), mask=answer.mask.roll(1, 0))
    return Thought(None, moved, [*words[-1:], *words[:-1]])


def _zeroed(thought: Thought) -> Thought:
    answer = thought.answer
    silent = replace(
        answer, states=torch.zeros_like(answer.states), mask=torch.ones_like(answer.mask)
    )
    return Thought(None, silent, None)
