"""What a peer would answer, at once or by speaking, and where a primary's cache turns its keys."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from transformers import DynamicCache
from transformers.models.llama.modeling_llama import apply_rotary_pos_emb

from experts.latent.net.cache_fusion import _rotations, _SlotContext, _turned
from experts.latent.net.member import Member
from experts.latent.net.thoughts import Reader
from experts.values import Message
from tests.experts.latent.teams import members

TEXTS = ("Jatrir?", "What is the token of the guild of Bem Stadur?")


@pytest.fixture(scope="module")
def frozen() -> dict[str, Member]:
    return members(torch.float64)


def prompt_ids(member: Member, text: str) -> list[int]:
    return member.prompt([Message(role="user", content=text)]).ids


def states_of(member: Member, ids: list[int]) -> torch.Tensor:
    """(length, width), read at once, by itself."""
    with torch.inference_mode():
        found: torch.Tensor = member.model.model(torch.tensor([ids])).last_hidden_state[0]
    return found


def thought_at_once(member: Member, ids: list[int], n_slots: int) -> torch.Tensor:
    blanks = [member.blank_id or 0] * (n_slots - 1)
    return states_of(member, [*ids, *blanks])[-n_slots:]


def thought_by_speaking(member: Member, ids: list[int], n_slots: int) -> torch.Tensor:
    """Greedy, each token from the beginning."""
    for _ in range(n_slots - 1):
        ids = [*ids, int(member.model.lm_head(states_of(member, ids)[-1]).argmax())]
    return states_of(member, ids)[-n_slots:]


@pytest.mark.parametrize("name", ["people", "guilds"])
@pytest.mark.parametrize("at_once", [True, False])
def test_thoughts_are_those_of_each_question_by_itself(
    name: str, at_once: bool, frozen: dict[str, Member]
) -> None:
    member = frozen[name] if at_once else replace(frozen[name], blank_id=None)
    think = thought_at_once if at_once else thought_by_speaking
    prompts = [member.prompt([Message(role="user", content=text)]) for text in TEXTS]
    found = Reader(member, prompts).answer_states(6)
    for row, text in zip(found, TEXTS, strict=True):
        wanted = think(member, prompt_ids(member, text), 6)
        torch.testing.assert_close(row, wanted, atol=1e-9, rtol=1e-9)


def test_keys_are_turned_as_the_primary_turns_its_own(frozen: dict[str, Member]) -> None:
    """What is written into a cache must stand at its slot's position, as rotary keys do."""
    primary = frozen["guilds"]
    positions = torch.tensor([[3, 7, 40]])
    n_heads = primary.model.config.num_key_value_heads
    size = primary.model.config.hidden_size // primary.model.config.num_attention_heads
    keys = torch.randn(1, n_heads, 3, size, dtype=torch.float64)
    turns = _rotations(primary, positions)
    _, wanted = apply_rotary_pos_emb(keys, keys, *turns)
    torch.testing.assert_close(_turned(keys, turns), wanted)
    torch.testing.assert_close(_turned(wanted, turns, back=True), keys)
    ids = prompt_ids(primary, TEXTS[1])
    cache = DynamicCache(config=primary.model.config)
    with torch.inference_mode():
        primary.model.model(torch.tensor([ids]), past_key_values=cache, use_cache=True)
        first = primary.model.model.layers[0]
        read = first.input_layernorm(primary.embed(torch.tensor([ids])))
        plain = first.self_attn.k_proj(read).view(1, len(ids), n_heads, size).transpose(1, 2)
    everywhere = _rotations(primary, torch.arange(len(ids))[None])
    torch.testing.assert_close(_turned(plain, everywhere), cache.layers[0].keys)


def test_a_slot_looks_at_the_ones_before_it_and_at_no_later_one() -> None:
    context = _SlotContext(16, 5)
    read = torch.randn(1, 5, 16)
    other = read.clone()
    other[:, 3] += torch.randn(16)
    with torch.no_grad():
        one, changed = context(read)[0], context(other)[0]
    torch.testing.assert_close(one[:3], changed[:3])
    assert not torch.allclose(one[4], changed[4])
