"""Soft prefix: what peers think becomes prompt embeddings of the primary.

Nothing of the primary is touched but its input, so this form runs wherever prompt embeddings are
taken: on an unmodified engine, too.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import nn

from experts.latent.net.asked import Asked
from experts.latent.net.form import (
    Form,
    Going,
    Link,
    Thoughts,
    gated_mask,
    put,
    relative_error,
    taken,
)
from experts.latent.net.member import Embedded, Member
from experts.latent.net.slot_reader import SlotReader
from experts.latent.net.thoughts import Reader


class SoftPrefix(Form):
    """One reader a link."""

    def __init__(
        self, links: Sequence[Link], widths: Mapping[str, int], n_slots: int, *, wide: int = 256
    ) -> None:
        super().__init__(links)
        self.readers = nn.ModuleDict(
            {k.key: SlotReader(widths[k.peer], wide, widths[k.primary], n_slots) for k in links}
        )

    def embeddings(self, primary: Embedded, asked: Asked, thoughts: Thoughts) -> torch.Tensor:
        """(n, length, width): the whole prompt, its slots filled."""
        embedded = primary.embed(asked.ids)
        if not thoughts:
            return embedded
        return put(embedded, asked.slots.flatten(1), self._soft(primary, asked, thoughts))

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
        states = primary.model.model(
            inputs_embeds=self.embeddings(primary, asked, thoughts),
            attention_mask=gated_mask(asked, log_gates),
            position_ids=asked.positions,
            past_key_values=cache,
            use_cache=cache is not None,
        ).last_hidden_state
        return states[:, -asked.n_tail :], Going(primary, cache, asked)

    def teach(self, primary: Member, asked: Asked, thoughts: Thoughts, told: Asked) -> torch.Tensor:
        wanted = taken(primary.embed(told.ids), told.slots.flatten(1))
        return relative_error(self._soft(primary, asked, thoughts), wanted, asked.slots_mask)

    def _soft(self, primary: Embedded, asked: Asked, thoughts: Thoughts) -> torch.Tensor:
        """(n, n_peers * n_used, width)."""
        read = [
            self.readers[Link(peer, primary.name).key](thought.answer.states)[:, : asked.n_used]
            for peer, thought in thoughts.items()
        ]
        return torch.cat(read, 1)
