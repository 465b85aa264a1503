"""Which exact model a scorer fits, and how it was trained: ``scorer.json`` beside its weights."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from experts.errors import BadScorer
from experts.local.fingerprint import weights_fingerprint
from experts.weights_file import only

_MOST_WIDTH = 1_000_000
CARD_FILE, WEIGHTS_FILE = "scorer.json", "scorer.safetensors"


@dataclass(frozen=True, kw_only=True, slots=True)
class ScorerCard:
    """Of the scorer of one model."""

    weights: str
    """Fingerprint of the model's weights and tokenizer (``experts.local.fingerprint``)."""
    width: int
    """Of the model's states."""
    trained: Mapping[str, Any] = field(default_factory=dict)

    def save(self, folder: Path) -> None:
        text = json.dumps(asdict(self), indent=2, ensure_ascii=False)
        (folder / CARD_FILE).write_text(f"{text}\n", encoding="utf-8")


def read_scorer_card(folder: Path, model_folder: Path) -> ScorerCard:
    """Raises BadScorer for a folder that holds no scorer, or that of another model."""
    path = folder / CARD_FILE
    try:
        told = json.loads(path.read_text(encoding="utf-8"))
        card = ScorerCard(**only(told, ScorerCard))
        if type(card.width) is not int or not 1 <= card.width <= _MOST_WIDTH:
            raise ValueError(f"width is {card.width!r}; it is a number from 1")
    except FileNotFoundError:
        raise BadScorer(
            f"{folder} has no {CARD_FILE}: it is not a scorer. `conclave latent scorer` trains one."
        ) from None
    except (OSError, ValueError, TypeError) as error:
        raise BadScorer(f"{path} is not a scorer's card: {error}") from None
    found = weights_fingerprint(model_folder)
    if found != card.weights:
        raise BadScorer(
            f"The scorer in {folder} was trained with a model whose weights are {card.weights}; "
            f"those in {model_folder} are {found}. Train one for this model: conclave latent "
            "scorer."
        )
    return card
