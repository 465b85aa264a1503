"""The most that a latent expert's tokens can cost, from the prices of its members."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from experts.cards import Prices
from experts.latent import BLANK
from experts.latent.card import HeadCard

_HALF_BYTES = 3
"""That half a character is shown as."""


def most_of(card: HeadCard, folders: Mapping[str, Path], prices: Mapping[str, Prices]) -> Prices:
    """An upper bound for every route: all members read what is asked, and the dearest speaks. With
    interaction layers the others read along, a token a byte at most; and who cannot think at once
    speaks its answer."""
    paid = [prices[name] for name in card.names]
    spoken = []
    for name in card.names:
        others = sum(prices[m].input_usd_per_mtok for m in card.names if m != name)
        along = _longest_token_bytes(folders[name]) if card.form == "interaction" else 0
        spoken.append(prices[name].output_usd_per_mtok + along * others)
    thought_usd = sum(
        (card.n_slots - 1) * prices[name].output_usd_per_mtok / 1e6
        for name in card.names
        if not _thinks_at_once(folders[name])
    )
    return Prices(
        input_usd_per_mtok=sum(p.input_usd_per_mtok for p in paid),
        output_usd_per_mtok=max(spoken),
        load_usd_per_s=max(p.load_usd_per_s for p in paid),
        call_usd=thought_usd,
    )


def _longest_token_bytes(folder: Path) -> int:
    """At most, as text: half a character is shown as more bytes than it has."""
    vocabulary = _tokenizer(folder)["model"]["vocab"]
    tokens = vocabulary if isinstance(vocabulary, dict) else [token for token, _ in vocabulary]
    return max((len(token.encode()) for token in tokens), default=0) + _HALF_BYTES


def _thinks_at_once(folder: Path) -> bool:
    return any(token["content"] == BLANK for token in _tokenizer(folder).get("added_tokens", ()))


def _tokenizer(folder: Path) -> Any:
    return json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))
