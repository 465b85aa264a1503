"""What a routing decision costs in time, on one thread, beside its floor and two peers.

Every contestant is given every question, one after the other, in an order that rotates from
question to question, so whatever else the machine does hits all alike. Questions are generated ones
of the validation split, in wordings that no router here was fitted on. Where a contestant names a
category, the share of right ones stands beside: speed is no merit on its own.

The floor is the encoder's forward pass alone. Peers are optional (extra ``bench``):

* litellm's complexity router, rules on keywords and length: ``classify`` and the tier's model.
  It names no category, so it is measured for time only.
* semantic-router's IndexedRouter with a route a category, our reference questions as utterances,
  and our MiniLM as its encoder through an adapter, so that the encoder makes no difference.

All of it runs in a process of its own, whose numerical libraries are told to use one thread
before they are imported.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from eval.questions import Question, lab_questions
from eval.statistics import wilson_interval
from experts.errors import ConclaveError
from experts.values import Message, Query

_THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "RAYON_NUM_THREADS")
N_WARM_UP = 20
GOAL_ENCODE_S, GOAL_SETTLED_S = 0.003, 0.0003
TWENTY_SIX_TOKENS = (
    "Which of these planets in our solar system has the largest number of known moons, and what "
    "is the diameter of it?"
)
INSTALL = "pip install 'conclave-coe[bench]'"

Decide = Callable[[str], str | None]
"""From a question to the category it was taken for, where the contestant names one."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Latency:
    """One contestant, on n questions."""

    name: str
    n: int
    p50_s: float
    p50_interval_s: tuple[float, float]
    """95 %, from order statistics."""
    p95_s: float
    right: float | None = None
    """Share of questions whose category was named right; None where none is named."""
    right_interval: tuple[float, float] | None = None
    """95 %, Wilson."""
    goal_s: float | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Report:
    latencies: list[Latency]
    missing: list[str]
    """Peers that are not installed."""
    settled_share: float
    """Of the questions, by the shortcut."""


def run_bench(n: int, *, seed: int = 0) -> Report:
    """Time all contestants on ``n`` questions, in a process with one thread."""
    environment = {
        **os.environ,
        **dict.fromkeys(_THREADS, "1"),
        "LITELLM_LOCAL_MODEL_COST_MAP": "True",
    }
    run = subprocess.run(  # noqa: S603
        [sys.executable, "-m", "eval.bench_decision", str(n), str(seed)],
        capture_output=True,
        text=True,
        env=environment,
        check=False,
    )
    if run.returncode:
        raise ConclaveError(f"The benchmark's process failed:\n{run.stderr[-2000:]}")
    told = json.loads(run.stdout.splitlines()[-1])
    return Report(**{**told, "latencies": [Latency(**row) for row in told["latencies"]]})


def measure(n: int, *, seed: int) -> Report:
    """As ``run_bench``, in this process and with its threads."""
    per_skill = -(-n // _n_skills())
    drawn = lab_questions(per_skill, "val", held_out_wording=True, seed=seed)
    questions = [drawn[i] for i in np.random.default_rng(seed).permutation(len(drawn))[:n]]
    ours, settles = _ours()
    peers, missing = _peers()
    contestants = {**_floors(), **ours, **peers}
    texts = [q.question for q in questions]
    for text in texts[:N_WARM_UP]:
        for decide in contestants.values():
            decide(text)
    seconds: dict[str, list[float]] = {name: [] for name in contestants}
    said: dict[str, list[str | None]] = {name: [] for name in contestants}
    names = list(contestants)
    for turn, text in enumerate(texts):
        for k in range(len(names)):
            name = names[(turn + k) % len(names)]
            started = time.perf_counter()
            category = contestants[name](text)
            seconds[name].append(time.perf_counter() - started)
            said[name].append(category)
    settled = settles(texts)
    rows = [_latency(name, seconds[name], said[name], questions) for name in names]
    fast = np.array(seconds[SHIPPED])
    rows.insert(
        1 + names.index(SHIPPED),
        _latency(
            f"  of these, settled by words ({settled.mean():.0%})", fast[settled].tolist(), [], []
        ),
    )
    rows.insert(
        2 + names.index(SHIPPED),
        _latency("  of these, embedded", fast[~settled].tolist(), [], []),
    )
    goals = {names[0]: GOAL_ENCODE_S, rows[1 + names.index(SHIPPED)].name: GOAL_SETTLED_S}
    return Report(
        latencies=[replace(row, goal_s=goals.get(row.name)) for row in rows],
        missing=missing,
        settled_share=float(settled.mean()),
    )


SHIPPED = "Conclave as shipped: words, else MiniLM"


def _n_skills() -> int:
    from experts.lab.questions import SKILLS

    return len(SKILLS)


def _floors() -> dict[str, Decide]:
    """Encoders alone: a question of 26 tokens from text to vector, and forward passes."""
    import torch

    from skills.embedders import MiniLMEmbedder, TorchMiniLMEmbedder

    torch.set_num_threads(1)
    ours, reference = MiniLMEmbedder(n_threads=1), TorchMiniLMEmbedder()
    reference.embed(["warming up"])
    tokenizer, model = reference._parts

    def long(text: str) -> None:
        ours.embed([TWENTY_SIX_TOKENS])

    def forward(text: str) -> None:
        ours.embed([text])

    encoded: dict[str, Any] = {}

    def forward_torch(text: str) -> None:
        with torch.inference_mode():
            model(**encoded.setdefault(text, tokenizer([text], return_tensors="pt")))

    return {
        "encoder alone, one question of 26 tokens": long,
        "floor: encoder alone, these questions": forward,
        "floor: the same on torch, forward pass": forward_torch,
    }


def _ours() -> tuple[dict[str, Decide], Callable[[Sequence[str]], np.ndarray]]:
    """Conclave's whole decision with each embedder, the shortcut on and off."""
    from orchestrator.conclave import Conclave
    from orchestrator.config import Config
    from orchestrator.ledger import Ledger
    from skills.embedders import HashingEmbedder, MiniLMEmbedder, TorchMiniLMEmbedder

    ledger = Ledger(":memory:")
    shipped = Conclave.shipped(Config(), ledger=ledger)
    fitted = shipped.require_fitted()
    plain = replace(fitted, shortcut=None)

    def made(fit: Any, embedder: Any) -> Decide:
        conclave = Conclave(
            shipped.experts,
            ledger,
            embedder=embedder,
            fitted=fit,
            policies=shipped.policies,
            host_usd_per_s=shipped.host_usd_per_s,
        )

        def decide(text: str) -> str | None:
            message = Message(role="user", content=text)
            query = Query(query_id="bench", messages=(message,), fallback_price_usd=1e-3)
            [decision] = conclave.decide([query], "conclave")
            skills = decision.scores.skills if decision.scores else {}
            return fitted.category_of[next(iter(skills))]

        return decide

    def settles(texts: Sequence[str]) -> np.ndarray:
        if fitted.shortcut is None:
            return np.zeros(len(texts), bool)
        return fitted.shortcut.annotate(texts)[1]

    minilm, hashing = MiniLMEmbedder(n_threads=1), HashingEmbedder()
    return {
        SHIPPED: made(fitted, minilm),
        "Conclave, shortcut off": made(plain, minilm),
        "Conclave, shortcut off, MiniLM on torch": made(plain, TorchMiniLMEmbedder()),
        "Conclave, shortcut off, hashing": made(
            replace(plain, router=_on(hashing, plain.router)), hashing
        ),
    }, settles


def _references() -> list[Question]:
    """What the shipped router was fitted on (``conclave lab fit``)."""
    return lab_questions(30, "val", held_out_wording=False, seed=1)


def _on(embedder: Any, router: Any) -> Any:
    """The router with its reference questions embedded otherwise; bars stay, so only the time and
    the likeliest category are to be read from it."""
    from copy import copy

    from skills.annotate import NeighbourAnnotator

    references = _references()
    other = copy(router)
    other.annotator_ = NeighbourAnnotator(k=router.annotator_.k).fit(
        embedder.embed([q.question for q in references]),
        [str(q.skill) for q in references],
        router.annotator_.skills,
    )
    return other


def _peers() -> tuple[dict[str, Decide], list[str]]:
    made: dict[str, Decide] = {}
    missing = []
    for name, make in {"litellm": _litellm, "semantic-router": _semantic_router}.items():
        try:
            made |= make()
        except ImportError:
            missing.append(name)
    return made, missing


def _litellm() -> dict[str, Decide]:
    from litellm.router_strategy.complexity_router.complexity_router import ComplexityRouter

    router: Any = ComplexityRouter(
        model_name="smart",
        litellm_router_instance=None,  # type: ignore[arg-type, unused-ignore]
        complexity_router_config={
            "tiers": {"SIMPLE": "a", "MEDIUM": "b", "COMPLEX": "c", "REASONING": "d"}
        },
        derive_savings_baseline=False,
    )

    def decide(text: str) -> None:
        tier, _, _ = router.classify(text)
        router.get_model_for_tier(tier)

    return {"litellm, complexity router (rules)": decide}


def _semantic_router() -> dict[str, Decide]:
    from semantic_router import IndexedRouter, Route
    from semantic_router.encoders import DenseEncoder

    from orchestrator.conclave import SHIPPED_STATE
    from skills.embedders import MiniLMEmbedder

    category_of = json.loads((SHIPPED_STATE / "fitted.json").read_text("utf-8"))["category_of"]
    minilm = MiniLMEmbedder(n_threads=1)

    class OurMiniLM(DenseEncoder):  # type: ignore[misc, unused-ignore]
        """Its encoders fetch weights from a hub or ask a service; ours is here."""

        name: str = "minilm"

        def __call__(self, docs: list[Any]) -> list[list[float]]:
            return [list(map(float, v)) for v in minilm.embed(docs)]

        async def acall(self, docs: list[Any]) -> list[list[float]]:
            return self(docs)

    utterances: dict[str, list[str]] = {}
    for question in _references():
        utterances.setdefault(category_of[question.skill], []).append(question.question)
    routes = [Route(name=name, utterances=texts) for name, texts in utterances.items()]
    router: Any = IndexedRouter(encoder=OurMiniLM(), routes=routes)
    return {"semantic-router, our MiniLM": lambda text: router(text).name}


def _latency(
    name: str, seconds: Sequence[float], said: Sequence[str | None], questions: Sequence[Question]
) -> Latency:
    from orchestrator.conclave import SHIPPED_STATE

    times, n = np.sort(seconds), len(seconds)
    if not n:
        nothing = float("nan")
        return Latency(
            name=name, n=0, p50_s=nothing, p50_interval_s=(nothing, nothing), p95_s=nothing
        )
    # Ranks of the median's interval: the binomial's, as a normal.
    half = 1.96 * np.sqrt(n) / 2
    low, high = max(0, int(n / 2 - half)), min(n - 1, int(np.ceil(n / 2 + half)))
    right, interval = None, None
    if any(s is not None for s in said):
        category_of = json.loads((SHIPPED_STATE / "fitted.json").read_text("utf-8"))["category_of"]
        n_right = sum(s == category_of[q.skill] for s, q in zip(said, questions, strict=True))
        right, interval = n_right / n, wilson_interval(n_right, n)
    return Latency(
        name=name,
        n=n,
        p50_s=float(np.median(times)),
        p50_interval_s=(float(times[low]), float(times[high])),
        p95_s=float(np.quantile(times, 0.95)),
        right=right,
        right_interval=interval,
    )


if __name__ == "__main__":
    print(json.dumps(asdict(measure(int(sys.argv[1]), seed=int(sys.argv[2])))))  # noqa: T201
