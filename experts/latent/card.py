"""What a trained head says of itself: which exact models it fits, its form, how it was trained.

Written beside the weights as ``head.json``. Loading a head with other models than those it was
trained with is refused: its matrices would fit the shapes and mean nothing.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

from experts.errors import BadHead
from experts.local.fingerprint import reading_fingerprint, weights_fingerprint
from experts.weights_file import fill, only

if TYPE_CHECKING:
    from torch import nn

FormName = Literal["soft_prefix", "cache_fusion", "interaction"]
FORMS: tuple[FormName, ...] = get_args(FormName)
SIZES_OF: Mapping[FormName, frozenset[str]] = {
    "soft_prefix": frozenset({"wide"}),
    "cache_fusion": frozenset({"inner", "wide"}),
    "interaction": frozenset({"inner", "n_stacks", "wide"}),
}
"""What can be said of a form's own layers."""
_MOST = 1_000_000
"""Of any size: what is larger is a mistake, and would take all memory."""
CARD_FILE, WEIGHTS_FILE = "head.json", "head.safetensors"


@dataclass(frozen=True, kw_only=True, slots=True)
class MemberCard:
    """One of the models that a head fits."""

    name: str
    weights: str
    """Fingerprint of its weights and tokenizer (``experts.local.fingerprint``)."""
    reading: str
    """Fingerprint of how they are used: configuration, chat template."""
    width: int
    depth: int
    """Layers."""
    cached: int
    """Numbers that a layer caches for a token, keys and values together."""


@dataclass(frozen=True, kw_only=True, slots=True)
class HeadCard:
    """A latent head."""

    form: FormName
    members: tuple[MemberCard, ...]
    """An untrained head is the first of them."""
    n_slots: int
    """States that a peer hands over, and places for them in the primary's prompt."""
    top_k: int
    """Most peers that are asked at once."""
    sizes: Mapping[str, int] = field(default_factory=dict)
    """Of the form's own layers; what is not said is the form's default."""
    trained: Mapping[str, Any] = field(default_factory=dict)
    """How: seed, questions, steps, figures. Empty for one that was not."""

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(m.name for m in self.members)

    def save(self, folder: Path) -> None:
        text = json.dumps(asdict(self), indent=2, ensure_ascii=False)
        (folder / CARD_FILE).write_text(f"{text}\n", encoding="utf-8")

    def check(self, folders: Mapping[str, Path]) -> None:
        """That these hold the models that it fits, by name, and no others. Raises BadHead."""
        if unknown := folders.keys() - set(self.names):
            raise BadHead(
                f"{min(unknown)!r} is not a member of the head: they are {', '.join(self.names)}."
            )
        for member in self.members:
            folder = folders.get(member.name)
            if folder is None:
                raise BadHead(
                    f"The head was trained with {member.name!r}, which is not among the members "
                    f"here: {', '.join(folders) or 'none'}. Name a folder for it."
                )
            if not any(folder.glob("*.safetensors")):
                raise BadHead(
                    f"The folder of {member.name!r} holds no model (*.safetensors), or is not "
                    f"there: {folder}."
                )
            found = weights_fingerprint(folder)
            if found != member.weights:
                raise BadHead(
                    f"The head was trained with another {member.name!r}: its weights are "
                    f"{member.weights}, those here {found}. Use the model it was trained with, or "
                    "train a head for this one: conclave latent train."
                )
            if reading_fingerprint(folder) != member.reading:
                raise BadHead(
                    "The head was trained with another configuration or chat template of "
                    f"{member.name!r}: something beside the weights in {folder} has changed. Put "
                    "it back, or train a head for this one: conclave latent train."
                )


def read_card_for_engines(folder: Path) -> HeadCard:
    """Raises BadHead for what is none, and for a form that engines cannot run."""
    card = read_card(folder)
    if card.form != "soft_prefix":
        raise BadHead(
            f"{folder} is of the form {card.form}, which reaches into its models; engines run the "
            "form soft_prefix alone."
        )
    return card


def read_card(folder: Path) -> HeadCard:
    """Raises BadHead for a folder that holds no head."""
    path = folder / CARD_FILE
    try:
        told = json.loads(path.read_text(encoding="utf-8"))
        members = tuple(MemberCard(**only(m, MemberCard)) for m in only(told, HeadCard)["members"])
        card = HeadCard(**{**told, "members": members})
    except FileNotFoundError:
        raise BadHead(
            f"{folder} has no {CARD_FILE}: it is not a head. `conclave latent train` makes one."
        ) from None
    except (OSError, ValueError, TypeError, RecursionError) as error:
        raise BadHead(f"{path} is not a head's card: {error}") from None
    if card.form not in FORMS:
        raise BadHead(f"{path}: unknown form {card.form!r}; known: {', '.join(FORMS)}.")
    if problem := _problem(card):
        raise BadHead(f"{path}: {problem}")
    return card


def _problem(card: HeadCard) -> str | None:
    """What no head can be, in words."""
    if len(card.members) < 2 or len(set(card.names)) < len(card.members):
        return (
            f"a head has two members or more, each once; here: {', '.join(card.names) or 'none'}."
        )
    if not isinstance(card.sizes, dict) or not isinstance(card.trained, dict):
        return "`sizes` and `trained` are objects with keys."
    if unknown := card.sizes.keys() - SIZES_OF[card.form]:
        return f"{min(unknown)!r} is no size of the form {card.form}."
    counted = {"n_slots": card.n_slots, "top_k": card.top_k, **card.sizes}
    for member in card.members:
        of = {"width": member.width, "depth": member.depth, "cached": member.cached}
        counted |= {f"{key} of {member.name}": value for key, value in of.items()}
    for name, value in counted.items():
        if type(value) is not int or not 1 <= value <= _MOST:  # True is an int, too
            return f"{name} is {value!r}; it is a number from 1."
    return None


def fill_head(head: nn.Module, folder: Path, *, device: str = "cpu") -> None:
    """Trained weights. Raises BadHead for those of another head, and for a broken file."""
    try:
        fill(head, folder / WEIGHTS_FILE, device=device)
    except ValueError as error:
        raise BadHead(
            f"{error} Copy the head's folder again, whole, or train it anew: conclave latent train."
        ) from None


def card_of(
    form: FormName, folders: Mapping[str, Path], *, n_slots: int, top_k: int, **sizes: int
) -> HeadCard:
    """The card of an untrained head for the models in these folders."""
    from transformers import AutoConfig

    members = []
    for name, folder in folders.items():
        config = AutoConfig.from_pretrained(folder)
        heads = getattr(config, "num_key_value_heads", config.num_attention_heads)
        size = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
        members.append(
            MemberCard(
                name=name,
                weights=weights_fingerprint(folder),
                reading=reading_fingerprint(folder),
                width=config.hidden_size,
                depth=config.num_hidden_layers,
                cached=2 * heads * size,
            )
        )
    return HeadCard(form=form, members=tuple(members), n_slots=n_slots, top_k=top_k, sizes=sizes)
