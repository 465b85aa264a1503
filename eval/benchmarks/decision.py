"""What a routing decision costs in time, on one thread, beside its floor and two peers.

Every contestant is given every question, one after the other, in an order drawn anew for each, so
that whatever else the machine does hits all alike. Those on torch get every fifth question only:
their weights push everybody else's out of the caches. Questions are generated ones of the
validation split, in wordings that no router here was fitted on. Where a contestant names a
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
from eval.statistics import Z95, wilson_interval
from experts.errors import ConclaveError
from experts.values import Message, Query
from skills.embedders import Embedder
from skills.minilm import MiniLMEmbedder, minilm_folder
from skills.taxonomy import Taxonomy

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
    p50_s: float | None
    """None where n is 0, like what follows."""
    p50_interval_s: tuple[float, float] | None
    """95 %, from order statistics."""
    p95_s: float | None
    cpu_p50_s: float | None
    """Of processor time: what is left of p50 when nobody else wants the processor."""
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


def run_bench(n: int, *, seed: int = 0, peers: bool = True) -> Report:
    """Time all contestants on ``n`` questions, in a process with one thread."""
    environment = {
        **os.environ,
        **dict.fromkeys(_THREADS, "1"),
        "LITELLM_LOCAL_MODEL_COST_MAP": "True",
    }
    run = subprocess.run(  # noqa: S603
        [sys.executable, "-m", "eval.benchmarks.decision", str(n), str(seed), str(int(peers))],
        capture_output=True,
        text=True,
        env=environment,
        check=False,
    )
    if run.returncode:
        raise ConclaveError(f"The benchmark's process failed:\n{run.stderr[-2000:]}")
    told = json.loads(run.stdout.splitlines()[-1])
    return Report(**{**told, "latencies": [Latency(**row) for row in told["latencies"]]})


def measure(n: int, *, seed: int, peers: bool) -> Report:
    """As ``run_bench``, in this process and with its threads."""
    per_skill = -(-n // _n_skills())
    drawn = lab_questions(per_skill, "val", held_out_wording=True, seed=seed)
    questions = [drawn[i] for i in np.random.default_rng(seed).permutation(len(drawn))[:n]]
    category_of = Taxonomy.load().category_of
    minilm = MiniLMEmbedder(n_threads=1)
    ours, settles = _ours(minilm)
    others, missing = _peers(minilm) if peers else ({}, [])
    contestants = {**_floors(minilm), **ours, **others}
    texts = [q.question for q in questions]
    for text in texts[: min(N_WARM_UP, n // 4)]:
        for decide in contestants.values():
            decide(text)
    rng = np.random.default_rng(seed)
    asked: dict[str, list[_Asked]] = {name: [] for name in contestants}
    for turn, question in enumerate(questions):
        for name in rng.permutation(list(contestants)):
            if name in _ON_TORCH and turn % 5:
                continue
            cpu, started = time.process_time(), time.perf_counter()
            category = contestants[name](question.question)
            seconds, cpu_s = time.perf_counter() - started, time.process_time() - cpu
            asked[name].append(_Asked(seconds, cpu_s, category, category_of[str(question.skill)]))
    rows = []
    settled = settles(texts)
    for name, answers in asked.items():
        rows.append(_latency(name, answers, goal_s=GOAL_ENCODE_S if name == ENCODER else None))
        if name == SHIPPED:
            parts = [a for a, s in zip(answers, settled, strict=True) if s]
            rest = [a for a, s in zip(answers, settled, strict=True) if not s]
            rows.append(_latency("- settled by words", parts, goal_s=GOAL_SETTLED_S))
            rows.append(_latency("- embedded", rest))
    return Report(latencies=rows, missing=missing, settled_share=float(settled.mean()))


ENCODER, SHIPPED = "encoder, 26 tokens", "Conclave"
_ON_TORCH = ("encoder on torch", "no shortcut, torch")


@dataclass(frozen=True, slots=True)
class _Asked:
    seconds: float
    cpu_s: float
    said: str | None
    truth: str


def _n_skills() -> int:
    from experts.lab.questions import SKILLS

    return len(SKILLS)


def _floors(minilm: Embedder) -> dict[str, Decide]:
    """The encoder alone, from text to vector; on torch the forward pass alone."""
    import torch
    from transformers import AutoTokenizer, BertModel

    torch.set_num_threads(1)
    tokenizer = AutoTokenizer.from_pretrained(str(minilm_folder()))
    model = BertModel.from_pretrained(str(minilm_folder()), add_pooling_layer=False).eval()

    def encode_26_tokens(text: str) -> None:
        minilm.embed([TWENTY_SIX_TOKENS])

    def encode(text: str) -> None:
        minilm.embed([text])

    def encode_on_torch(text: str) -> None:
        with torch.inference_mode():
            model(**tokenizer([text], return_tensors="pt"))

    return {
        ENCODER: encode_26_tokens,
        "encoder (floor)": encode,
        "encoder on torch": encode_on_torch,
    }


def _ours(minilm: Embedder) -> tuple[dict[str, Decide], Callable[[Sequence[str]], np.ndarray]]:
    """Conclave's whole decision with each embedder, the shortcut on and off."""
    from orchestrator.conclave import Conclave
    from orchestrator.config import Config
    from orchestrator.ledger import Ledger
    from skills.embedders import HashingEmbedder, TorchMiniLMEmbedder

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

    hashing = HashingEmbedder()
    return {
        SHIPPED: made(fitted, minilm),
        "no shortcut": made(plain, minilm),
        "no shortcut, torch": made(plain, TorchMiniLMEmbedder()),
        "no shortcut, hashing": made(replace(plain, router=_on(hashing, plain.router)), hashing),
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
    other.annotator_ = NeighbourAnnotator().fit(
        embedder.embed([q.question for q in references]),
        [str(q.skill) for q in references],
        router.annotator_.skills,
    )
    return other


def _peers(minilm: Embedder) -> tuple[dict[str, Decide], list[str]]:
    made: dict[str, Decide] = {}
    missing = []
    makers: dict[str, Callable[[], dict[str, Decide]]] = {
        "litellm": _litellm,
        "semantic-router": lambda: _semantic_router(minilm),
    }
    for name, make in makers.items():
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

    return {"litellm complexity": decide}


def _semantic_router(minilm: Embedder) -> dict[str, Decide]:
    from semantic_router import IndexedRouter, Route
    from semantic_router.encoders import DenseEncoder

    category_of = Taxonomy.load().category_of

    class OurMiniLM(DenseEncoder):  # type: ignore[misc, unused-ignore]
        """Its encoders fetch weights from a hub or ask a service; ours is here."""

        name: str = "minilm"

        def __call__(self, docs: list[Any]) -> list[list[float]]:
            return [list(map(float, v)) for v in minilm.embed(docs)]

        async def acall(self, docs: list[Any]) -> list[list[float]]:
            return self(docs)

    utterances: dict[str, list[str]] = {}
    for question in _references():
        utterances.setdefault(category_of[str(question.skill)], []).append(question.question)
    routes = [Route(name=name, utterances=texts) for name, texts in utterances.items()]
    router: Any = IndexedRouter(encoder=OurMiniLM(), routes=routes)
    return {"semantic-router": lambda text: router(text).name}


def _latency(name: str, asked: Sequence[_Asked], *, goal_s: float | None = None) -> Latency:
    times, n = np.sort([a.seconds for a in asked]), len(asked)
    named = [a.said == a.truth for a in asked if a.said is not None]
    # Ranks of the median's interval: the binomial's, as a normal's.
    half = Z95 * np.sqrt(n) / 2
    low, high = max(0, int(n / 2 - half)), min(n - 1, int(np.ceil(n / 2 + half)))
    return Latency(
        name=name,
        n=n,
        p50_s=float(np.median(times)) if n else None,
        p50_interval_s=(float(times[low]), float(times[high])) if n else None,
        p95_s=float(np.quantile(times, 0.95)) if n else None,
        cpu_p50_s=float(np.median([a.cpu_s for a in asked])) if n else None,
        right=sum(named) / n if named else None,
        right_interval=wilson_interval(sum(named), n) if named else None,
        goal_s=goal_s,
    )


if __name__ == "__main__":
    _n, _seed, _with_peers = map(int, sys.argv[1:])
    print(json.dumps(asdict(measure(_n, seed=_seed, peers=bool(_with_peers)))))  # noqa: T201
