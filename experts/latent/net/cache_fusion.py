"""Cache fusion: what peers think goes into the primary's keys and values, and it decodes as ever.

Source: Cache-to-Cache (arXiv 2510.03215). The primary reads the prompt and empty slots; then, layer
by layer, a small net makes of the peers' states and of the primary's own cache at the slots what is
added to that cache, a gate for each layer. What is behind the slots, and all that is decoded, is
the primary's plain computation over the fused cache.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, cast

import torch
from torch import nn

from experts.latent.net.asked import Asked
from experts.latent.net.form import (
    Form,
    Going,
    Link,
    Thoughts,
    relative_error,
    straight_through,
    taken,
)
from experts.latent.net.member import Member
from experts.latent.net.slot_reader import SlotReader
from experts.latent.net.thoughts import Reader


class CacheFusion(Form):
    """A reader and, for each layer of the primary, a fuser, for each link."""

    def __init__(
        self,
        links: Sequence[Link],
        widths: Mapping[str, int],
        n_slots: int,
        *,
        depths: Mapping[str, int],
        cached: Mapping[str, int],
        inner: int = 96,
        wide: int = 192,
    ) -> None:
        """depths: layers of each member. cached: numbers that a layer of each caches for a token,
        keys and values together."""
        super().__init__(links)
        self.readers = nn.ModuleDict(
            {k.key: SlotReader(widths[k.peer], wide, inner, n_slots) for k in links}
        )
        self.contexts = nn.ModuleDict({k.key: _SlotContext(inner, n_slots) for k in links})
        self.fusers = nn.ModuleDict(
            {
                k.key: nn.ModuleList(
                    _Fuser(inner, cached[k.primary], wide) for _ in range(depths[k.primary])
                )
                for k in links
            }
        )

    def begin(
        self,
        primary: Member,
        asked: Asked,
        thoughts: Thoughts,
        log_gates: torch.Tensor | None = None,
        *,
        cache: Any = None,
        readers: Mapping[str, Reader] | None = None,
    ) -> tuple[torch.Tensor, Going]:
        from transformers import DynamicCache

        cache = DynamicCache(config=primary.model.config) if cache is None else cache
        n_head = asked.ids.shape[1] - asked.n_tail if thoughts else 0
        if thoughts:
            self._read(primary, asked, n_head, cache)
        self._fuse(primary, asked, thoughts, log_gates, cache)
        states = primary.model.model(
            input_ids=asked.ids[:, n_head:],
            attention_mask=asked.mask,
            position_ids=asked.positions[:, n_head:],
            past_key_values=cache,
            use_cache=True,
        ).last_hidden_state
        return states[:, -asked.n_tail :], Going(primary, cache, asked)

    def teach(self, primary: Member, asked: Asked, thoughts: Thoughts, told: Asked) -> torch.Tensor:
        """Of the fused cache at the slots, from the cache of the same words, layer by layer."""
        from transformers import DynamicCache

        n_head = asked.ids.shape[1] - asked.n_tail
        found = DynamicCache(config=primary.model.config)
        wanted = DynamicCache(config=primary.model.config)
        self._read(primary, asked, n_head, found)
        self._read(primary, told, n_head, wanted)
        self._fuse(primary, asked, thoughts, None, found)
        places = asked.slots.flatten(1)
        errors = []
        for f, w in zip(found.layers, wanted.layers, strict=True):
            for a, b in ((f.keys, w.keys), (f.values, w.values)):
                made, said = taken(_flat(a), places), taken(_flat(b), places)
                errors.append(relative_error(made, said, asked.slots_mask))
        return torch.stack(errors).mean()

    @torch.no_grad()
    def _read(self, primary: Member, asked: Asked, n_head: int, cache: Any) -> None:
        primary.model.model(
            input_ids=asked.ids[:, :n_head],
            attention_mask=asked.mask[:, :n_head],
            position_ids=asked.positions[:, :n_head],
            past_key_values=cache,
            use_cache=True,
        )

    def _fuse(
        self,
        primary: Member,
        asked: Asked,
        thoughts: Thoughts,
        log_gates: torch.Tensor | None,
        cache: Any,
    ) -> None:
        for i, (peer, thought) in enumerate(thoughts.items()):
            key = Link(peer, primary.name).key
            read = self.contexts[key](self.readers[key](thought.answer.states))[:, : asked.n_used]
            places = asked.slots[:, i]
            turns = _rotations(primary, asked.positions.gather(1, places))
            gate = _straight_gate(log_gates, i)
            fusers = cast(nn.ModuleList, self.fusers[key])
            for layer, fuser in zip(cache.layers, fusers, strict=True):
                _add(layer, places, fuser, read, turns, gate)


class _SlotContext(nn.Module):
    """Slots look at the ones before them: what a cache holds of a word depends on all of it so
    far."""

    def __init__(self, inner: int, n_slots: int, n_heads: int = 4) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(inner)
        self.attention = nn.MultiheadAttention(inner, n_heads, batch_first=True)
        self.wide = nn.Sequential(
            nn.LayerNorm(inner), nn.Linear(inner, 2 * inner), nn.GELU(), nn.Linear(2 * inner, inner)
        )
        self.place = nn.Parameter(torch.randn(n_slots, inner) * 0.02)

    def forward(self, read: torch.Tensor) -> torch.Tensor:
        read = read + self.place
        x = self.norm(read)
        later = torch.ones(x.shape[1], x.shape[1], dtype=torch.bool, device=x.device).triu(1)
        read = read + self.attention(x, x, x, attn_mask=later, need_weights=False)[0]
        made: torch.Tensor = read + self.wide(read)
        return made


class _Fuser(nn.Module):
    """What is added to one layer's cache at the slots: (n, n_slots, cached), gated."""

    def __init__(self, inner: int, cached: int, wide: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(cached)
        self.into = nn.Linear(inner + cached, wide)
        self.out = nn.Linear(wide, cached)
        self.gate = nn.Parameter(torch.ones(()))

    def forward(self, read: torch.Tensor, own: torch.Tensor) -> torch.Tensor:
        both = torch.cat([read, self.norm(own)], -1)
        made: torch.Tensor = self.gate * self.out(nn.functional.gelu(self.into(both)))
        return made


Rotations = tuple[torch.Tensor, torch.Tensor]


def _rotations(primary: Member, positions: torch.Tensor) -> Rotations:
    """Cosines and sines of the primary's rotary positions at the slots, (n, n_slots, head)."""
    cos, sin = primary.model.model.rotary_emb(
        torch.zeros(1, dtype=primary.model.dtype, device=positions.device), positions
    )
    return cos, sin


def _turned(keys: torch.Tensor, turns: Rotations, *, back: bool = False) -> torch.Tensor:
    """Keys, (n, heads, n_slots, head), turned to their positions, or back to none."""
    cos, sin = turns[0][:, None], turns[1][:, None] * (-1 if back else 1)
    half = keys.shape[-1] // 2
    other = torch.cat([-keys[..., half:], keys[..., :half]], -1)
    return keys * cos + other * sin


def _add(
    layer: Any,
    places: torch.Tensor,
    fuser: nn.Module,
    read: torch.Tensor,
    turns: Rotations,
    gate: torch.Tensor | None,
) -> None:
    """Fuse one layer's cache in place of what it held at the slots."""
    keys, values = _at(layer.keys, places), _at(layer.values, places)
    plain = _turned(keys, turns, back=True)
    both = torch.cat([_flat(plain), _flat(values)], -1)
    made = fuser(read, both)
    made = made if gate is None else made * gate[:, None, None]
    more_keys, more_values = made.chunk(2, -1)
    n_heads = keys.shape[1]
    layer.keys = _replaced(layer.keys, places, _turned(plain + _by_head(more_keys, n_heads), turns))
    layer.values = _replaced(layer.values, places, values + _by_head(more_values, n_heads))


def _straight_gate(log_gates: torch.Tensor | None, i: int) -> torch.Tensor | None:
    """1, with the gradient of the gate: a peer is either asked or not."""
    if log_gates is None:
        return None
    return straight_through(log_gates)[:, i].exp()


def _flat(cached: torch.Tensor) -> torch.Tensor:
    """(n, heads, length, head) as (n, length, heads * head)."""
    return cached.transpose(1, 2).flatten(2)


def _by_head(flat: torch.Tensor, n_heads: int) -> torch.Tensor:
    return flat.reshape(*flat.shape[:2], n_heads, -1).transpose(1, 2)


def _at(cached: torch.Tensor, places: torch.Tensor) -> torch.Tensor:
    index = places[:, None, :, None].expand(-1, cached.shape[1], -1, cached.shape[3])
    return cached.gather(2, index)


def _replaced(cached: torch.Tensor, places: torch.Tensor, new: torch.Tensor) -> torch.Tensor:
    index = places[:, None, :, None].expand(-1, cached.shape[1], -1, cached.shape[3])
    return cached.scatter(2, index, new)
