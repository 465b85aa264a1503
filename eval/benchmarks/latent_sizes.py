"""The time that each form takes at real sizes: members of any shape with random weights.

What a model says does not matter to its speed, so nothing is trained and nothing is downloaded; the
heads are opened and not trained. Meant for a GPU and 7B shapes; a CPU runs small ones.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from eval.benchmarks.latent_speed import speeds_of
from eval.latent.speed import SpeedFigures
from experts.bundled import FOLDER, LATENT_MEMBERS
from experts.errors import UserError
from experts.latent import BLANK
from experts.latent.card import FORMS, HeadCard, MemberCard
from experts.latent.net.member import Member
from experts.latent.net.team import Team
from experts.local.chat_tokenizer import ChatTokenizer

_HEAD_WIDTH = 128
_VOCABULARY = 32_000


@dataclass(frozen=True, slots=True)
class Shape:
    """Of a Llama: width of its states, layers, and width between."""

    width: int
    layers: int

    @classmethod
    def parse(cls, text: str) -> Shape:
        """``4096x32``, a 7B. Raises UserError."""
        found = re.fullmatch(r"(\d+)x(\d+)", text)
        if not found or int(found[1]) % _HEAD_WIDTH or not int(found[1]) or not int(found[2]):
            raise UserError(
                f"--shape {text}: write WIDTHxLAYERS, the width a multiple of {_HEAD_WIDTH}; "
                "4096x32 is the shape of a 7B."
            )
        return cls(int(found[1]), int(found[2]))

    @property
    def between(self) -> int:
        """Llama's own ratio: 11008 for 4096."""
        return round(self.width * 8 / 3 / 256) * 256 or 256


def run_sizes(
    shape: Shape, *, device: str, n_rounds: int, say: Callable[[str], None]
) -> list[SpeedFigures]:
    """As ``run_speed``, with three members of one shape."""
    members = {name: _random_member(name, shape, device) for name in LATENT_MEMBERS}
    found = []
    for form in FORMS:
        card = HeadCard(form=form, members=_cards(shape), n_slots=12, top_k=2)
        team = Team(card, members)
        found += speeds_of(team, n_rounds=n_rounds, say=say)
    return found


def _random_member(name: str, shape: Shape, device: str) -> Member:
    """Reads as the bundled member of that name does; in half precision on a GPU."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    heads = shape.width // _HEAD_WIDTH
    config = LlamaConfig(
        vocab_size=_VOCABULARY,
        hidden_size=shape.width,
        intermediate_size=shape.between,
        num_hidden_layers=shape.layers,
        num_attention_heads=heads,
        num_key_value_heads=heads,
        head_dim=_HEAD_WIDTH,
    )
    dtype = torch.float32 if device == "cpu" else torch.bfloat16
    with torch.device(device):
        model = LlamaForCausalLM(config).to(dtype)
    model.requires_grad_(False).eval()
    tokenizer = ChatTokenizer(FOLDER / name)
    return Member(name, model, tokenizer, tokenizer.id_of(BLANK))


def _cards(shape: Shape) -> tuple[MemberCard, ...]:
    return tuple(
        MemberCard(
            name=name,
            weights="",
            reading="",
            width=shape.width,
            depth=shape.layers,
            cached=2 * shape.width,
        )
        for name in LATENT_MEMBERS
    )
