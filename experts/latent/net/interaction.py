"""Interaction layers: after each stack of its layers the primary attends to what its peers think.

Source: Mixture of Thoughts (arXiv 2509.21164), with the defects of its published code mended. A
position sees of a peer what ends at its own byte of the shared text or before it, and nothing else.
Peers do not depend on the primary: they read the prompt once and then along with what it says, and
their last states serve all stacks. The layers act whenever the primary runs, at generation too,
where its cache keeps what they did before. Each begins as nothing at all: its last matrix is zero.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, cast

import torch
from torch import nn

from experts.latent.net.asked import Asked, pieces_of
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
from experts.latent.net.thoughts import Heard, Reader

_N_DISTANCES = 18
"""Bytes between a position and what it attends to; all that is farther is as far as the last."""


class Interaction(Form):
    """Layers for each link: one adapter of the peer's states, and attention at each cut."""

    reads_along = True

    def __init__(
        self,
        links: Sequence[Link],
        widths: Mapping[str, int],
        n_slots: int,
        *,
        depths: Mapping[str, int],
        n_stacks: int = 4,
        inner: int = 128,
        wide: int = 192,
    ) -> None:
        """depths: layers of each member. The first cut is before the first layer, the others
        between stacks of about as many layers."""
        super().__init__(links, widths, n_slots)
        self.cuts = {m: cuts_of(depth, n_stacks) for m, depth in depths.items()}
        self.adapters = nn.ModuleDict({k.key: _Adapter(widths[k.peer], wide, inner) for k in links})
        self.layers = nn.ModuleDict(
            {
                k.key: nn.ModuleList(
                    _Attention(widths[k.primary], inner) for _ in self.cuts[k.primary]
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
        heard = self._hearing(primary, thoughts, log_gates)
        with _attending(primary, heard, asked.ends):
            states = self._states(primary, asked, cache)
        going = _GoingOn(primary, cache, asked, heard, list((readers or {}).values()))
        return states[:, -asked.n_tail :], going

    def teach(self, primary: Member, asked: Asked, thoughts: Thoughts, told: Asked) -> torch.Tensor:
        """Of the states that go into the first layer, at the slots: as if it had been said. What
        the later cuts are for, the language loss alone can tell."""
        places = asked.slots.flatten(1)
        states = taken(primary.embed(asked.ids), places)
        wanted = taken(primary.embed(told.ids), places)
        ends = asked.ends.gather(1, places)
        made = states
        for one in self._hearing(primary, thoughts, None):
            made = made + one.layers[0](states, ends, one.heard, None)
        return relative_error(made, wanted)

    def _states(self, primary: Member, asked: Asked, cache: Any) -> torch.Tensor:
        states: torch.Tensor = primary.model.model(
            inputs_embeds=primary.embed(asked.ids),
            attention_mask=asked.mask,
            position_ids=asked.positions,
            past_key_values=cache,
            use_cache=cache is not None,
        ).last_hidden_state
        return states

    def _hearing(
        self, primary: Member, thoughts: Thoughts, log_gates: torch.Tensor | None
    ) -> list[_Hearing]:
        found = []
        for i, (peer, thought) in enumerate(thoughts.items()):
            key = Link(peer, primary.name).key
            found.append(
                _Hearing(
                    cuts=self.cuts[primary.name],
                    layers=list(cast(nn.ModuleList, self.layers[key])),
                    adapter=self.adapters[key],
                    heard=adapted(self.adapters[key], thought.whole),
                    log_gate=None if log_gates is None else straight_through(log_gates)[:, i],
                )
            )
        return found


def cuts_of(depth: int, n_stacks: int) -> tuple[int, ...]:
    """How many layers are below each cut.

    >>> cuts_of(4, 4), cuts_of(32, 4)
    ((0, 1, 2, 3), (0, 8, 16, 24))
    """
    return tuple(dict.fromkeys(depth * i // n_stacks for i in range(n_stacks)))


class _Adapter(nn.Module):
    def __init__(self, width: int, wide: int, inner: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.into = nn.Linear(width, wide)
        self.out = nn.Linear(wide, inner)

    def forward(self, states: torch.Tensor) -> torch.Tensor:
        made: torch.Tensor = self.out(nn.functional.gelu(self.into(self.norm(states))))
        return made


class _Attention(nn.Module):
    """Of a primary's positions to a peer's, one head a distance profile; attending to nothing is
    one of the choices."""

    def __init__(self, width: int, inner: int, n_heads: int = 2) -> None:
        super().__init__()
        self.n_heads = n_heads
        self.norm = nn.LayerNorm(width)
        self.query = nn.Linear(width, inner)
        self.key = nn.Linear(inner, inner)
        self.value = nn.Linear(inner, inner)
        self.out = nn.Linear(inner, width, bias=False)
        nn.init.zeros_(self.out.weight)
        # Heads begin by looking one and two bytes back: a slot's own state, and the one before it.
        far = (torch.arange(_N_DISTANCES)[None] - torch.arange(1, n_heads + 1)[:, None]).abs()
        self.near = nn.Parameter(-5.0 * far.clamp(max=2).float())

    def forward(
        self,
        states: torch.Tensor,
        ends: torch.Tensor,
        heard: Heard,
        log_gate: torch.Tensor | None,
    ) -> torch.Tensor:
        """What is added to ``states``, (n, length, width), that end at ``ends``."""
        n, length, _ = states.shape
        q = self._heads(self.query(self.norm(states)))
        k, v = self._heads(self.key(heard.states)), self._heads(self.value(heard.states))
        apart = ends[:, :, None] - heard.ends[:, None]
        seen = (apart >= 0) & heard.mask[:, None].bool()
        scores = q @ k.transpose(-1, -2) / q.shape[-1] ** 0.5
        scores = scores + self.near[:, apart.clamp(0, _N_DISTANCES - 1)].transpose(0, 1)
        if log_gate is not None:
            scores = scores + log_gate[:, None, None, None]
        scores = scores.masked_fill(~seen[:, None], torch.finfo(scores.dtype).min)
        nothing = scores.new_zeros(n, self.n_heads, length, 1)
        weights = torch.cat([scores, nothing], -1).softmax(-1)[..., :-1]
        made: torch.Tensor = self.out((weights @ v).transpose(1, 2).flatten(2))
        return made

    def _heads(self, x: torch.Tensor) -> torch.Tensor:
        return x.reshape(*x.shape[:2], self.n_heads, -1).transpose(1, 2)


@dataclass(frozen=True)
class _Hearing:
    """What one peer has to say to a batch, and the layers that hear it."""

    cuts: tuple[int, ...]
    layers: Sequence[nn.Module]
    adapter: nn.Module
    heard: Heard
    """Adapted: (n, length, inner)."""
    log_gate: torch.Tensor | None

    def then(self, later: Heard) -> _Hearing:
        return replace(self, heard=self.heard.then(adapted(self.adapter, later)))

    def rows(self, index: torch.Tensor) -> _Hearing:
        gate = None if self.log_gate is None else self.log_gate[index]
        return replace(self, heard=self.heard.rows(index), log_gate=gate)


def adapted(adapter: nn.Module, heard: Heard) -> Heard:
    return replace(heard, states=adapter(heard.states))


class _GoingOn(Going):
    """Before each step the peers read what was said."""

    def __init__(
        self,
        primary: Member,
        cache: Any,
        asked: Asked,
        hearing: Sequence[_Hearing],
        readers: Sequence[Reader],
    ) -> None:
        super().__init__(primary, cache, asked)
        self._hearing, self._readers = list(hearing), list(readers)

    def keep(self, rows: torch.Tensor) -> None:
        super().keep(rows)
        self._hearing = [h.rows(rows) for h in self._hearing]
        for reader in self._readers:
            reader.keep(rows)

    def _states(self, ids: torch.Tensor) -> torch.Tensor:
        for i, reader in enumerate(self._readers):
            self._hearing[i] = self._hearing[i].then(self._read_on(reader))
        at = [
            start + len(self._primary.tokenizer.decode(said).encode())
            for start, said in zip(self._starts, self._said, strict=True)
        ]
        ends = torch.tensor(at, device=ids.device)[:, None]
        with _attending(self._primary, self._hearing, ends):
            return super()._states(ids)

    def _read_on(self, reader: Reader) -> Heard:
        """The piece that each row has just said, if it is one."""
        pieces = []
        for start, said in zip(self._starts, self._said, strict=True):
            before, _ = pieces_of(self._primary, reader.peer, said[:-1], start)
            ids, ends = pieces_of(self._primary, reader.peer, said, start)
            pieces.append((ids[len(before) :], ends[len(before) :]))
        return reader.read_on([ids for ids, _ in pieces], [ends for _, ends in pieces])


@contextmanager
def _attending(primary: Member, hearing: Sequence[_Hearing], ends: torch.Tensor) -> Iterator[None]:
    """While it is open, the primary's layers hear the peers."""

    def at(cut: int) -> Any:
        def hear(module: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...]:
            states = args[0]
            made = states
            for one in hearing:
                layer = one.layers[one.cuts.index(cut)]
                made = made + layer(states, ends, one.heard, one.log_gate)
            return (made, *args[1:])

        return hear

    cuts = hearing[0].cuts if hearing else ()
    layers = primary.model.model.layers
    hooks = [layers[cut].register_forward_pre_hook(at(cut)) for cut in cuts]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()
