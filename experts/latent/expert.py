"""Latent experts: their cards, and the bundled one."""

from __future__ import annotations

import json
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from experts.bundled import FOLDER as MEMBERS_FOLDER
from experts.bundled import LATENT_MEMBERS, bundled_cards
from experts.cards import ExpertCard, Prices
from experts.errors import BadHead
from experts.latent.brain import LatentBrain
from experts.latent.card import HeadCard, read_card, read_card_for_engines
from experts.latent.pricing import most_of
from experts.latent.wire import EngineUrls, SoftPrefixWire
from experts.local.expert import InProcessExpert
from experts.local.fingerprint import weights_fingerprint
from experts.modes import DIRECT, Mode
from experts.remote.expert import RemoteExpert

BUNDLED_HEAD = Path(__file__).parent / "bundled"


def latent_expert(
    name: str,
    head: Path,
    folders: Mapping[str, Path],
    prices: Mapping[str, Prices],
    *,
    worker: ThreadPoolExecutor,
    description: str = "",
    device: str = "cpu",
    modes: tuple[Mode, ...] = (DIRECT,),
) -> InProcessExpert:
    """folders, prices: of the members, by the names in the head's card. No weights are read yet.

    Raises BadHead for a head that is none, or that was trained with other models.
    """
    card = read_card(head)
    card.check(folders)
    brain = LatentBrain(head, folders, prices, device=device)
    described = description or f"{', '.join(card.names)} answering as one ({card.form})"
    bound = most_of(card, folders, prices)
    return InProcessExpert(
        _card(name, described, card, head, folders, bound, modes), brain, worker=worker
    )


def bundled_latent_expert(
    name: str,
    *,
    worker: ThreadPoolExecutor,
    load_usd_per_s: float,
    description: str = "",
    device: str = "cpu",
) -> InProcessExpert:
    """The bundled members with the bundled head."""
    members = bundled_cards(names=LATENT_MEMBERS, load_usd_per_s=load_usd_per_s)
    return latent_expert(
        name,
        BUNDLED_HEAD,
        {m.name: MEMBERS_FOLDER / m.name for m in members},
        {m.name: m.prices for m in members},
        worker=worker,
        description=description,
        device=device,
    )


def latent_expert_on_engines(
    name: str,
    head: Path | None,
    folders: Mapping[str, Path],
    urls: Mapping[str, EngineUrls],
    prices: Prices,
    *,
    description: str = "",
    modes: tuple[Mode, ...] = (DIRECT,),
) -> RemoteExpert:
    """Its members run on engines that somebody else starts.

    head: None for the bundled one, with its members. folders: for the members' tokens and embedding
    tables. prices: of the tokens of all members together.

    Raises BadHead for a head that is none, that was trained with other models, or whose form
    engines cannot run.
    """
    if head is None:
        head, folders = BUNDLED_HEAD, {m: MEMBERS_FOLDER / m for m in LATENT_MEMBERS}
    card = read_card_for_engines(head)
    card.check(folders)
    if unknown := urls.keys() - set(card.names):
        raise BadHead(
            f"{min(unknown)!r} is not a member of the head, so no engine can run it. Its members "
            f"are {', '.join(card.names)}."
        )
    described = description or f"{', '.join(card.names)} answering as one, on engines"
    return RemoteExpert(
        _card(name, described, card, head, folders, prices, modes),
        SoftPrefixWire(head, folders, urls),
    )


def _card(
    name: str,
    description: str,
    head_card: HeadCard,
    head: Path,
    folders: Mapping[str, Path],
    prices: Prices,
    modes: tuple[Mode, ...],
) -> ExpertCard:
    members = [folders[m] for m in head_card.names]
    return ExpertCard(
        name=name,
        kind="latent",
        description=description,
        prices=prices,
        context_tokens=min(_context(folder) for folder in members),
        memory_bytes=sum(f.stat().st_size for m in members for f in m.glob("*.safetensors")),
        version=f"{weights_fingerprint(head)}+{'+'.join(m.weights for m in head_card.members)}",
        extra_tokens=head_card.n_slots * head_card.top_k,
        modes=modes,
    )


def _context(folder: Path) -> int:
    path = folder / "config.json"
    try:
        return int(json.loads(path.read_text(encoding="utf-8"))["max_position_embeddings"])
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise BadHead(
            f"{path} does not tell how long a text the model reads (max_position_embeddings): "
            f"{type(error).__name__}: {error}."
        ) from None
