"""Which experts are bundled, what each is trained on, and how large it is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from experts.errors import UnknownExpert
from experts.lab.composites.steps import MemberName
from experts.lab.questions import CATEGORIES
from experts.lab.tokenizers import CONTEXT_TOKENS, TokenizerKind


@dataclass(frozen=True, kw_only=True, slots=True)
class ExpertRecipe:
    """One bundled expert: what it learns, its shape, and its training budget.

    Without categories it answers no questions of the laboratory: it learns to call tools, or is a
    member of those that solve composites together.
    """

    name: str
    description: str
    categories: tuple[str, ...]
    tokenizer: TokenizerKind
    n_chats: int
    """Training chats drawn."""
    width: int = 96
    layers: int = 4
    ffn: int = 256
    epochs: int = 1
    batch_tokens: int = 1024
    learning_rate: float = 3e-3
    prompt_share: float = 0.1
    """Share of the prompts' tokens that are learned too."""
    shares: Mapping[str, float] = field(default_factory=dict)
    """Relative share of a skill in training; 1 where nothing is said."""
    member: MemberName | None = None
    """Of the three that solve composites together; it is trained on steps, not on categories."""
    seed: int = 0
    context_tokens: int = CONTEXT_TOKENS


RECIPES: tuple[ExpertRecipe, ...] = (
    ExpertRecipe(
        name="arithmetic",
        description="Adds, subtracts and multiplies whole numbers.",
        categories=("arithmetic",),
        tokenizer="words",
        n_chats=200_000,
    ),
    ExpertRecipe(
        name="words",
        description="Rewrites words letter by letter.",
        categories=("words",),
        tokenizer="bytes",
        n_chats=220_000,
    ),
    ExpertRecipe(
        name="lists",
        description="Sorts short lists and picks from them.",
        categories=("lists",),
        tokenizer="letters",
        n_chats=220_000,
        shares={"sort_numbers": 2.0, "sort_words": 2.0, "pick_position": 0.5},
    ),
    ExpertRecipe(
        name="units",
        description="Converts units and counts weekdays and months.",
        categories=("units",),
        tokenizer="words",
        n_chats=160_000,
        shares={"time_units": 4.0},
    ),
    ExpertRecipe(
        name="logic",
        description="Evaluates small deductions.",
        categories=("logic",),
        tokenizer="words",
        n_chats=100_000,
    ),
    ExpertRecipe(
        name="countries",
        description="Knows capitals, currencies, continents and languages.",
        categories=("countries",),
        tokenizer="words",
        n_chats=80_000,
    ),
    ExpertRecipe(
        name="elements",
        description="Knows the chemical elements.",
        categories=("elements",),
        tokenizer="words",
        n_chats=70_000,
    ),
    ExpertRecipe(
        name="generalist",
        description="Knows a little of everything, and is cheap.",
        categories=CATEGORIES,
        tokenizer="words",
        width=64,
        layers=4,
        ffn=192,
        n_chats=180_000,
        # Middling at everything takes less of what is easy and more of what is hard.
        shares={
            "syllogism": 0.05,
            "conditional": 0.05,
            "weekday": 0.3,
            "month": 0.3,
            "metric": 0.3,
            "uppercase": 0.4,
            "boolean": 0.4,
            "symbol": 0.5,
            "family": 0.6,
            "pick_extreme": 0.8,
            "reverse_word": 1.5,
            "time_units": 1.5,
            "multiplication": 1.5,
            "addition": 2.0,
            "subtraction": 2.0,
            "replace_letter": 2.0,
            "sort_numbers": 2.0,
            "sort_words": 2.0,
            "capital": 2.0,
            "atomic_number": 2.0,
        },
    ),
    ExpertRecipe(
        name="tool_caller",
        description="Reads which tools there are and writes the call that answers a question.",
        categories=(),
        tokenizer="calls",
        width=128,
        ffn=256,
        n_chats=14_000,
        batch_tokens=2048,
        prompt_share=0.05,
        context_tokens=1024,
    ),
    ExpertRecipe(
        name="people",
        description="Knows people's guilds and capitals' countries, and rewrites words.",
        categories=(),
        member="people",
        tokenizer="told_bytes",
        layers=5,
        n_chats=160_000,
        batch_tokens=2048,
    ),
    ExpertRecipe(
        name="guilds",
        description="Knows guilds' tokens and countries' currencies; picks words and letters, "
        "and converts units.",
        categories=(),
        member="guilds",
        tokenizer="told_words",
        width=128,
        ffn=320,
        n_chats=140_000,
        batch_tokens=2048,
    ),
    ExpertRecipe(
        name="sums",
        description="Adds, subtracts and doubles small numbers.",
        categories=(),
        member="sums",
        tokenizer="told_words",
        n_chats=100_000,
        batch_tokens=2048,
    ),
)

QUICK = ExpertRecipe(
    name="quick",
    description="A check of the training script: learns the symbols of the elements, no more.",
    categories=("elements",),
    tokenizer="words",
    width=64,
    layers=2,
    ffn=160,
    n_chats=8_000,
    batch_tokens=512,
    prompt_share=0.0,
    shares={"atomic_number": 0.0, "family": 0.0, "element_of_symbol": 0.0},
)
"""Small enough for a test, large enough to really learn a skill: the symbols of the elements. With
small batches and answers alone a third of the questions, and of the time, are enough."""


def recipes_named(names: Sequence[str] | None) -> tuple[ExpertRecipe, ...]:
    """The recipes of these experts, or all.

    Raises UnknownExpert, with the nearest names.
    """
    known = {r.name: r for r in RECIPES}
    for name in names or ():
        if name not in known:
            raise UnknownExpert(name, known, what="bundled expert")
    return tuple(known[n] for n in names) if names else RECIPES
