"""A small pool of scripted experts with a known right answer to every question.

Two fields, sums and capitals; each has a specialist, and a cheap generalist is right on half of
both. Questions come in two very different wordings, so that any embedder tells them apart.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from random import Random

from eval.questions import Question
from experts.cards import Prices
from experts.expert import Expert
from experts.fake import FakeExpert
from experts.values import Call, Message, Query

CHEAP = Prices(input_usd_per_mtok=0.1, output_usd_per_mtok=0.1)
DEAR = Prices(input_usd_per_mtok=1.0, output_usd_per_mtok=1.0)
CATEGORY_OF = {"addition": "arithmetic", "capital": "countries"}


def questions(n: int = 60) -> list[Question]:
    """Alternating sums and invented capitals, n in all; every split has both."""
    rng = Random(0)
    asked = []
    for i in range(n):
        split = ("train", "train", "test")[(i // 2) % 3]
        if i % 2:
            country = f"{rng.choice('BDFGKLM')}{rng.choice('aeiou')}nd{rng.choice('aeiou')}ria{i}"
            asked.append(
                Question(
                    question=f"Which city is the capital of the country {country}?",
                    answer=f"{country} City",
                    skill="capital",
                    split=split,
                )
            )
        else:
            a, b = rng.randint(1, 99), rng.randint(1, 99)
            asked.append(
                Question(
                    question=f"How much is {a} plus {b} plus {i}?",
                    answer=str(a + b + i),
                    skill="addition",
                    split=split,
                )
            )
    return asked


def scripted(asked: Sequence[Question], skill: str | None) -> Mapping[str, str]:
    """Right answers for a skill; for None, for every second question of each skill."""
    if skill:
        return {q.question: q.answer for q in asked if q.skill == skill}
    return {q.question: q.answer for i, q in enumerate(asked) if i // 2 % 2}


def experts(asked: Sequence[Question] | None = None) -> dict[str, Expert]:
    """sums and cities know their field; the generalist half of everything, at a tenth of the
    price, and is surer when it is right."""
    asked = asked or questions()
    known = scripted(asked, None)

    def sure(call: Call) -> float:
        return -0.1 if call.messages[-1].content in known else -3.0

    pool = [
        FakeExpert("sums", scripted(asked, "addition"), prices=DEAR, logprob=lambda c: -0.2),
        FakeExpert("cities", scripted(asked, "capital"), prices=DEAR, logprob=lambda c: -0.2),
        FakeExpert("generalist", known, prices=CHEAP, logprob=sure),
    ]
    return {e.card.name: e for e in pool}


def query(text: str, *, query_id: str = "q-1", fallback_price_usd: float = 1e-3) -> Query:
    return Query(
        query_id=query_id,
        messages=(Message(role="user", content=text),),
        fallback_price_usd=fallback_price_usd,
    )
