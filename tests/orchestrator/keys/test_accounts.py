"""No limit of a key is passed, whatever runs at once and in whatever order it ends."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from experts.errors import UserError
from orchestrator.keys.accounts import NOTHING, Amount, LocalAccounts, nanodollars
from orchestrator.keys.bucket import MINUTE_S, Bucket
from orchestrator.keys.key import Allowance, VirtualKey, new_key
from orchestrator.keys.periods import begin_of, end_of

NOON = datetime(2026, 3, 31, 12, tzinfo=UTC).timestamp()


class Clock:
    """A clock that goes when it is told to."""

    def __init__(self, now: float = NOON) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


def key(**allowed: object) -> VirtualKey:
    return new_key("somebody", now=NOON, allowance=Allowance(**allowed))[0]


def accounts(clock: Clock | None = None, spent_usd: float = 0.0) -> LocalAccounts:
    clock = clock or Clock()
    return LocalAccounts(lambda key_id, since: spent_usd, now=clock, clock=clock)


def usd(dollars: float) -> Amount:
    return Amount(dollars, 0)


@given(
    st.floats(0.01, 2.0),
    st.lists(st.tuples(st.floats(0, 0.5), st.floats(0, 1), st.integers(0, 9)), max_size=60),
)
def test_a_budget_is_never_passed(budget: float, calls: list[tuple[float, float, int]]) -> None:
    """Calls are set aside at their most, and settled at a share of it, in any order."""
    paying, books = key(budget_usd=budget), accounts()
    under_way: list[tuple[Amount, Amount]] = []
    for most_usd, share, which in calls:
        most = usd(most_usd)
        if asyncio.run(books.reserve(paying, most)) is None:
            under_way.append((most, usd(most_usd * share)))
        standing = books.standing(paying)
        assert standing.spent_usd + standing.reserved_usd <= budget + 1e-9
        if under_way and which % 2:
            books.settle(paying, *under_way.pop(which % len(under_way)))
    for most, used in under_way:
        books.settle(paying, most, used)
    assert books.standing(paying).reserved_usd == 0


@given(
    st.integers(1, 50),
    st.lists(st.tuples(st.floats(0, 20), st.integers(1, 60)), min_size=1, max_size=80),
)
def test_a_rate_lets_through_twice_a_minutes_worth_in_any_minute_at_most(
    per_min: int, asked: list[tuple[float, int]]
) -> None:
    bucket, now, taken = Bucket(per_min), 0.0, list[tuple[float, int]]()
    for after_s, n in asked:
        now += after_s
        if n <= per_min and bucket.wait_s(n, now) == 0:
            bucket.take(n, now)
            taken.append((now, n))
    for begin, _ in taken:
        in_a_minute = sum(n for at, n in taken if begin <= at < begin + MINUTE_S)
        assert in_a_minute <= 2 * per_min


@given(st.integers(1, 50), st.lists(st.integers(1, 50), max_size=20), st.integers(1, 50))
def test_who_waits_as_long_as_was_said_is_let_in(per_min: int, before: list[int], n: int) -> None:
    bucket = Bucket(per_min)
    for some in before:
        bucket.take(some, 0.0)
    wait_s = bucket.wait_s(n, 0.0)
    assert bucket.wait_s(n, wait_s + 1e-6) <= 1e-9
    assert wait_s < 1e-3 or bucket.wait_s(n, wait_s - 1e-3) > 0


def test_what_is_not_used_comes_back() -> None:
    paying, books = key(tokens_per_min=100), accounts()
    assert asyncio.run(books.reserve(paying, Amount(0.0, 100))) is None
    refused = asyncio.run(books.reserve(paying, Amount(0.0, 100)))
    assert refused
    assert refused.retry_after_s == pytest.approx(60)
    books.settle(paying, Amount(0.0, 100), Amount(0.0, 10))
    assert asyncio.run(books.reserve(paying, Amount(0.0, 90))) is None


def test_a_request_too_large_for_any_minute_waits_for_a_full_one() -> None:
    """It would be refused for ever; so it takes what there is, and the next ones wait longer."""
    paying, books = key(tokens_per_min=100), accounts()
    assert asyncio.run(books.reserve(paying, Amount(0.0, 250))) is None
    refused = asyncio.run(books.reserve(paying, Amount(0.0, 1)))
    assert refused
    assert refused.retry_after_s == pytest.approx(60 * 1.51)


def test_requests_at_a_time() -> None:
    paying, books = key(max_concurrent=2), accounts()
    let_in = [asyncio.run(books.admit(paying, spends=True)) for _ in range(3)]
    assert [refusal is None for refusal in let_in] == [True, True, False]
    books.leave(paying, took_s=3.0)
    assert asyncio.run(books.admit(paying, spends=True)) is None


def test_a_budget_begins_anew_with_its_period_and_not_before() -> None:
    clock = Clock()
    paying, books = key(budget_usd=1.0, period="day"), accounts(clock)
    books.settle(paying, NOTHING, usd(1.0))
    refused = asyncio.run(books.admit(paying, spends=True))
    assert refused
    assert (refused.code, refused.retry_after_s) == ("insufficient_quota", 12 * 3600)
    assert asyncio.run(books.admit(paying, spends=False)) is None
    clock.now += 12 * 3600
    assert asyncio.run(books.admit(paying, spends=True)) is None
    assert books.standing(paying).spent_usd == 0
    books.settle(paying, NOTHING, usd(0.6))
    clock.now -= 20 * 3600  # set back: no period begins by it, and nothing is forgotten
    assert books.standing(paying).spent_usd == pytest.approx(0.6)


def test_what_was_spent_before_the_process_began_counts() -> None:
    paying, books = key(budget_usd=1.0), accounts(spent_usd=0.9)
    assert asyncio.run(books.reserve(paying, usd(0.2)))
    assert asyncio.run(books.reserve(paying, usd(0.1))) is None


def test_what_others_have_set_aside_may_come_back_soon() -> None:
    paying, books = key(budget_usd=1.0), accounts()
    asyncio.run(books.reserve(paying, usd(0.8)))
    refused = asyncio.run(books.reserve(paying, usd(0.5)))
    assert refused
    assert refused.retry_after_s is not None
    assert refused.retry_after_s < 60
    assert "$0.8 set aside" in refused.reason


@pytest.mark.parametrize(
    ("period", "begin", "end"),
    [
        ("day", (2026, 3, 31), (2026, 4, 1)),
        ("week", (2026, 3, 30), (2026, 4, 6)),
        ("month", (2026, 3, 1), (2026, 4, 1)),
    ],
)
def test_periods_are_of_the_calendar(
    period: str, begin: tuple[int, int, int], end: tuple[int, int, int]
) -> None:
    assert datetime.fromtimestamp(begin_of(period, NOON), UTC) == datetime(*begin, tzinfo=UTC)
    told = end_of(period, NOON)
    assert told is not None
    assert datetime.fromtimestamp(told, UTC) == datetime(*end, tzinfo=UTC)
    assert end_of("total", NOON) is None


@given(st.lists(st.floats(0, 1), max_size=30))
def test_sums_of_nanodollars_do_not_depend_on_their_order(amounts: list[float]) -> None:
    counted = sum(nanodollars(amount) for amount in amounts)
    assert sum(amounts) - 1e-9 <= counted / 1e9 <= sum(amounts) + 1e-9 * (len(amounts) + 1)


@pytest.mark.parametrize(
    "wrong", [{"budget_usd": 0}, {"requests_per_min": 0}, {"period": "year"}, {"timeout_s": -1}]
)
def test_an_allowance_of_nothing_is_an_error(wrong: dict[str, object]) -> None:
    with pytest.raises(UserError):
        Allowance(**wrong)
