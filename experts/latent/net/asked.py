"""A batch of questions as the primary reads them: prompt, slots for its peers, and what follows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch

from experts.latent.net.member import Embedded
from experts.latent.net.padding import left_padded, positions_of
from experts.latent.net.prompts import Prompt


@dataclass(frozen=True)
class Asked:
    """Prompts are padded on the left and answers on the right, so that slots stand in the same
    places of every row."""

    ids: torch.Tensor
    """(n, length) int64; slots hold the primary's slot token."""
    mask: torch.Tensor
    """(n, length) int64."""
    ends: torch.Tensor
    """(n, length) int64: where each token ends in the shared text. Slots lie behind the question,
    a byte each, all peers' side by side; what follows lies behind the slots."""
    slots: torch.Tensor
    """(n, n_peers, n_slots) int64: places of the slots in the row."""
    n_tail: int
    """Places behind the slots: template marks, and an answer where there is one."""

    @property
    def positions(self) -> torch.Tensor:
        return positions_of(self.mask)

    def told(self, ids: torch.Tensor) -> Asked:
        """The same with the slots filled with tokens, (n, n_peers, n_slots): as if it were said."""
        filled = self.ids.scatter(1, self.slots.flatten(1), ids.flatten(1).to(self.ids))
        return replace(self, ids=filled)


def ask(
    primary: Embedded,
    prompts: Sequence[Prompt],
    *,
    n_peers: int,
    n_slots: int,
    answers: Sequence[Sequence[int]] | None = None,
) -> Asked:
    """answers: token ids that the primary is to say, with its end token, for training."""
    said = answers or [()] * len(prompts)
    between = [primary.slot_id] * (n_peers * n_slots)
    heads, mask = left_padded([[*p.before, *between] for p in prompts], primary.slot_id)
    tails = [[*p.after, *answer] for p, answer in zip(prompts, said, strict=True)]
    n_tail = max(map(len, tails))
    padded = [tail + [primary.slot_id] * (n_tail - len(tail)) for tail in tails]
    is_said = [[1] * len(tail) + [0] * (n_tail - len(tail)) for tail in tails]
    start = heads.shape[1] - len(between)
    places = torch.arange(start, heads.shape[1]).view(1, n_peers, n_slots)
    ends = [
        _ends(primary, prompt, n_peers, n_slots, answer, n_tail)
        for prompt, answer in zip(prompts, said, strict=True)
    ]
    device = primary.device
    return Asked(
        ids=torch.cat([heads, torch.tensor(padded)], 1).to(device),
        mask=torch.cat([mask, torch.tensor(is_said)], 1).to(device),
        ends=left_padded(ends, 0)[0].to(device),
        slots=places.expand(len(prompts), -1, -1).to(device),
        n_tail=n_tail,
    )


def _ends(
    primary: Embedded,
    prompt: Prompt,
    n_peers: int,
    n_slots: int,
    answer: Sequence[int],
    n_tail: int,
) -> list[int]:
    at = prompt.n_bytes
    ends = [*prompt.ends_before]
    ends += [at + 1 + i for _ in range(n_peers) for i in range(n_slots)]
    at += n_slots if n_peers else 0
    ends += [at] * len(prompt.after)
    for n_bytes in bytes_said(primary, answer):
        ends.append(at + n_bytes)
    return [*ends, *([ends[-1]] * (n_tail - len(prompt.after) - len(answer)))]


def bytes_said(primary: Embedded, answer: Sequence[int]) -> list[int]:
    """Bytes of the answer's text up to and with each token; half a character counts what it is
    shown as."""
    return [len(primary.tokenizer.decode(answer[: i + 1]).encode()) for i in range(len(answer))]


def pieces_of(
    primary: Embedded, peer: Embedded, answer: Sequence[int], at: int
) -> tuple[list[int], list[int]]:
    """An answer as a peer reads it along: its own tokens of each piece that the primary says, and
    where they end when the answer begins at byte ``at``. Piece by piece, because a peer must not
    know how a word goes on when the primary has said half of it."""
    ids: list[int] = []
    ends: list[int] = []
    before = ""
    for i in range(len(answer)):
        text = primary.tokenizer.decode(answer[: i + 1])
        said = new_piece(text, before)
        piece, _ = peer.tokenizer.tokens_of(said)
        ids += piece
        ends += [at + len(text.encode())] * len(piece)
        before += said
    return ids, ends


def new_piece(text: str, before: str) -> str:
    """What a text has that it had not before; nothing while a character is half said, or when a
    mark was said that is no text."""
    return "" if text.endswith("\ufffd") else text[len(before) :]
