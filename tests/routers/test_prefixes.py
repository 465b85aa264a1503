"""What was read before makes the next turn cheaper there, and nowhere else."""

from __future__ import annotations

import numpy as np
import pytest

from experts.cards import Prices
from experts.errors import UnknownPrice
from experts.values import Arm, Usage
from routers.prefixes import read_prefixes
from routers.scores import QueryScores

KNOWN = Prices(input_usd_per_mtok=1.0, output_usd_per_mtok=4.0, cached_input_usd_per_mtok=0.1)
UNKNOWN = Prices(input_usd_per_mtok=1.0, output_usd_per_mtok=4.0)
A, B = Arm("a"), Arm("b")


def scores(*cost_usd: float) -> QueryScores:
    n = len(cost_usd)
    return QueryScores(
        arms=(A, B)[:n],
        p_correct=np.full(n, 0.9),
        sd=np.zeros(n),
        cost_usd=np.array(cost_usd),
        latency_s=np.zeros(n),
        novelty=0.0,
        is_general=False,
        skills={},
    )


def test_cached_input_is_charged_at_its_own_price() -> None:
    usage = Usage(input_tokens=1000, output_tokens=100, cached_tokens=800)
    assert KNOWN.cost_usd(usage) == pytest.approx((200 * 1 + 800 * 0.1 + 100 * 4) / 1e6)
    assert UNKNOWN.cost_usd(usage) == pytest.approx((1000 * 1 + 100 * 4) / 1e6)


@pytest.mark.parametrize("cached", [-0.1, 1.1, float("nan")])
def test_cached_input_cannot_be_dearer_than_other_input(cached: float) -> None:
    with pytest.raises(UnknownPrice, match="from 0 to 1"):
        Prices(input_usd_per_mtok=1.0, output_usd_per_mtok=4.0, cached_input_usd_per_mtok=cached)


def test_who_has_read_it_costs_less_by_what_need_not_be_read_again() -> None:
    prefixes = read_prefixes({A: 1000.0}, {"a": KNOWN})
    priced = scores(2e-3, 1.9e-3).with_prefixes(prefixes)
    assert priced.cost_usd == pytest.approx([2e-3 - 1000 * 0.9e-6, 1.9e-3])
    assert priced.objective(1.0).argmin() == 0
    assert str(priced.prefixes[A]) == "has read 1000 tokens, which saves 0.0009 $"


def test_a_price_that_is_not_known_is_no_discount() -> None:
    assert read_prefixes({A: 1000.0}, {"a": UNKNOWN}) == {}
    assert read_prefixes({A: 0.0}, {"a": KNOWN}) == {}


def test_it_costs_at_least_what_is_cached() -> None:
    """The expected price of a prompt comes of a rough line, which may be below what was read."""
    priced = scores(1e-4).with_prefixes(read_prefixes({A: 1000.0}, {"a": KNOWN}))
    assert priced.cost_usd == pytest.approx([1000 * 0.1e-6])


def test_arms_that_may_not_be_asked_are_left_out() -> None:
    priced = scores(1e-3).with_prefixes(read_prefixes({B: 10.0}, {"b": KNOWN}))
    assert not priced.prefixes
    assert priced.cost_usd == pytest.approx([1e-3])
