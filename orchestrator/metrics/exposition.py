"""Prometheus' text of what a server has counted, and of how its pool, its learner and its ledger
stand at that moment. Names end in their unit, as Prometheus has it."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

from orchestrator.conclave import Conclave
from orchestrator.facts import loaded_object
from orchestrator.metrics.meters import SECONDS, Durations

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
WINDOW_S = 3600.0
"""Over which cost-of-pass is told."""


def metrics_text(conclave: Conclave, *, n_under_way: int, now: float | None = None) -> bytes:
    """All of it. Blocks on the ledger. now: seconds since 1970."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Collected(conclave, n_under_way, time.time() if now is None else now))
    return generate_latest(registry)


class _Collected(Collector):
    def __init__(self, conclave: Conclave, n_under_way: int, now: float) -> None:
        self._conclave, self._n_under_way, self._now = conclave, n_under_way, now

    def collect(self) -> Iterable[Metric]:
        yield from self._requests()
        yield from self._calls()
        yield from self._decisions()
        yield from self._pool()
        yield from self._learned()
        yield from self._cost_of_pass()

    def _requests(self) -> Iterator[Metric]:
        meters = self._conclave.meters
        n = CounterMetricFamily(
            "conclave_requests", "HTTP requests, by route and status.", labels=("route", "status")
        )
        for (route, status), count in list(meters.requests.items()):
            n.add_metric((route, str(status)), count)
        yield n
        yield _durations(
            "conclave_request_seconds",
            "Until a response's last byte.",
            "route",
            meters.request_s,
        )
        yield GaugeMetricFamily(
            "conclave_requests_under_way", "Being answered now.", value=self._n_under_way
        )

    def _calls(self) -> Iterator[Metric]:
        meters, labels = self._conclave.meters, ("expert", "purpose", "outcome")
        n = CounterMetricFamily("conclave_calls", "Calls to experts.", labels=labels)
        usd = CounterMetricFamily("conclave_cost_usd", "Dollars for calls.", labels=labels)
        tokens = CounterMetricFamily(
            "conclave_tokens", "Tokens; cached ones are input, too.", labels=("expert", "direction")
        )
        loads = CounterMetricFamily(
            "conclave_load_seconds", "That calls waited for loads.", labels=("expert",)
        )
        by_expert: dict[str, list[float]] = {}
        for key, calls in list(meters.calls.items()):
            n.add_metric(key, calls.n)
            usd.add_metric(key, calls.cost_usd)
            sums = by_expert.setdefault(key[0], [0, 0, 0, 0])
            counted = (calls.input_tokens, calls.cached_tokens, calls.output_tokens, calls.load_s)
            for i, value in enumerate(counted):
                sums[i] += value
        for expert, (read, cached, said, load_s) in by_expert.items():
            for direction, count in (("input", read), ("cached", cached), ("output", said)):
                tokens.add_metric((expert, direction), count)
            loads.add_metric((expert,), load_s)
        yield from (n, usd, tokens, loads)
        yield _durations(
            "conclave_call_seconds", "From asking to the last token.", "expert", meters.call_s
        )

    def _decisions(self) -> Iterator[Metric]:
        meters = self._conclave.meters
        n = CounterMetricFamily(
            "conclave_decisions", "By policy and strategy.", labels=("policy", "strategy")
        )
        for key, count in list(meters.decisions.items()):
            n.add_metric(key, count)
        yield n
        yield CounterMetricFamily(
            "conclave_router_cost_usd", "Dollars for deciding.", value=meters.router_cost_usd
        )

    def _pool(self) -> Iterator[Metric]:
        loaded = GaugeMetricFamily(
            "conclave_expert_loaded", "Whether an expert need not be loaded.", labels=("expert",)
        )
        waiting = GaugeMetricFamily(
            "conclave_expert_waiting", "Calls that wait for its load.", labels=("expert",)
        )
        for name, expert in self._conclave.experts.items():
            stands = loaded_object(expert)
            loaded.add_metric((name,), float(stands["is_loaded"]))
            waiting.add_metric((name,), float(stands["n_waiting"]))
        yield from (loaded, waiting)

    def _learned(self) -> Iterator[Metric]:
        """How often an arm was right lately, and how often it was expected to be: calibration."""
        learner = self._conclave.learner
        recent = GaugeMetricFamily(
            "conclave_right_recent_ratio", "Share of right answers lately.", labels=("arm",)
        )
        fitted = GaugeMetricFamily(
            "conclave_right_fitted_ratio", "What was expected of these.", labels=("arm",)
        )
        drift = GaugeMetricFamily(
            "conclave_right_drift", "Whether the two differ beyond chance.", labels=("arm",)
        )
        for rate in learner.rates() if learner is not None else ():
            if rate.skill is None:
                arm = (str(rate.arm),)
                recent.add_metric(arm, rate.recent)
                fitted.add_metric(arm, rate.fitted)
                drift.add_metric(arm, float(bool(rate.drift)))
        yield from (recent, fitted, drift)

    def _cost_of_pass(self) -> Iterator[Metric]:
        stands = self._conclave.ledger.passed(since_s=self._now - WINDOW_S)
        n = GaugeMetricFamily(
            "conclave_judged_answers", "Answers of the last hour with a verdict.", value=stands.n
        )
        right = GaugeMetricFamily(
            "conclave_right_answers",
            "The sum of their verdicts.",
            value=stands.n_right,
        )
        usd = GaugeMetricFamily(
            "conclave_judged_cost_usd", "Dollars that these answers cost.", value=stands.cost_usd
        )
        yield from (n, right, usd)
        if stands.n_right:
            yield GaugeMetricFamily(
                "conclave_cost_of_pass_usd",
                "Dollars for a right answer, of those of the last hour with a verdict.",
                value=stands.cost_usd / stands.n_right,
            )


def _durations(
    name: str, documentation: str, label: str, of: Mapping[str, Durations]
) -> HistogramMetricFamily:
    family = HistogramMetricFamily(name, documentation, labels=(label,))
    for value, durations in list(of.items()):
        buckets: list[tuple[str, Any]] = []
        total = 0
        ends = [*(f"{end:g}" for end in SECONDS), "+Inf"]
        for end, count in zip(ends, durations.counts, strict=True):
            total += count
            buckets.append((end, total))
        family.add_metric((value,), buckets, durations.sum_s)
    return family
