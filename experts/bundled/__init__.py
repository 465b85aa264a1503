"""The bundled experts: tiny language models, trained by ``experts.lab`` on what it generates.

A laboratory, not assistants: eight answer short questions, each of its own field, and nothing else;
one, the tool caller, writes tool calls and answers nothing by itself; and three, the members of the
bundled latent expert, each know a part of what is asked of them together. Those are in a pool only
where they are named. They are ordinary Llama checkpoints; one folder each, beside this file.

Prices are list prices as an API would post them, growing with size as APIs' do. They pretend that a
million parameters here are a billion there: $0.10 per million input tokens and billion parameters,
and four times that for output, the ratio most providers use.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from experts.cards import TOOL_EXTRA, ExpertCard, Prices
from experts.errors import UnknownExpert
from experts.local.expert import LocalExpert
from experts.local.fingerprint import weights_fingerprint
from experts.tool_formats import format_of

FOLDER = Path(__file__).parent
TOOL_CALLER = "tool_caller"
LATENT_MEMBERS = ("people", "guilds", "sums")
"""Of the bundled latent expert, in the order of its head's card."""
USD_PER_MTOK_PER_MPARAMETER = 0.10
OUTPUT_PRICE_RATIO = 4.0
_BYTES_PER_PARAMETER = 4
"""Weights are stored in half precision and computed in single: CPUs are slow in half."""


@dataclass(frozen=True, kw_only=True, slots=True)
class BundledModel:
    """What training wrote about a model, in ``conclave.json`` in its folder."""

    name: str
    description: str
    categories: tuple[str, ...]
    """Of the laboratory's questions that it answers; none: it is for something else."""
    parameters: int
    context_tokens: int


def list_price(parameters: int, load_usd_per_s: float) -> Prices:
    """See the module.

    >>> list_price(500_000, 0.0).output_usd_per_mtok
    0.2
    """
    price = USD_PER_MTOK_PER_MPARAMETER * parameters / 1e6
    return Prices(
        input_usd_per_mtok=price,
        output_usd_per_mtok=price * OUTPUT_PRICE_RATIO,
        load_usd_per_s=load_usd_per_s,
    )


def bundled_models(folder: Path = FOLDER) -> tuple[BundledModel, ...]:
    """Those in ``folder`` that answer questions, specialists first, by name."""
    return tuple(m for m in _all_models(folder) if m.categories)


def _all_models(folder: Path) -> tuple[BundledModel, ...]:
    models = []
    for path in sorted(folder.glob("*/conclave.json")):
        about = json.loads(path.read_text(encoding="utf-8"))
        models.append(BundledModel(**{**about, "categories": tuple(about["categories"])}))
    return tuple(sorted(models, key=lambda m: (len(m.categories), m.name)))


def bundled_cards(
    *, names: Sequence[str] | None = None, load_usd_per_s: float, folder: Path = FOLDER
) -> list[ExpertCard]:
    """The cards of the bundled experts that answer questions, or of those named.

    Raises UnknownExpert for a name that is not bundled.
    """
    models = {m.name: m for m in _all_models(folder)}
    for name in names or ():
        if name not in models:
            raise UnknownExpert(name, models, what="bundled expert")
    return [
        _card(models[name], folder / name, load_usd_per_s)
        for name in (names if names is not None else [m.name for m in bundled_models(folder)])
    ]


def bundled_experts(
    worker: ThreadPoolExecutor,
    *,
    names: Sequence[str] | None = None,
    load_usd_per_s: float,
    folder: Path = FOLDER,
) -> list[LocalExpert]:
    """The bundled experts that answer questions, or those named. Nothing is loaded yet.

    Raises UnknownExpert for a name that is not bundled.
    """
    cards = bundled_cards(names=names, load_usd_per_s=load_usd_per_s, folder=folder)
    return [
        LocalExpert(
            card, folder / card.name, worker=worker, tool_format=format_of(folder / card.name)
        )
        for card in cards
    ]


def _card(model: BundledModel, folder: Path, load_usd_per_s: float) -> ExpertCard:
    return ExpertCard(
        name=model.name,
        kind="local",
        description=model.description,
        prices=list_price(model.parameters, load_usd_per_s),
        context_tokens=model.context_tokens,
        parameters=model.parameters,
        memory_bytes=model.parameters * _BYTES_PER_PARAMETER,
        version=weights_fingerprint(folder),
        takes=TOOL_EXTRA if model.name == TOOL_CALLER else frozenset(),
    )
