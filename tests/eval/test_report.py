"""The report: a page that stands alone, says what was found, and lets no name out of its place."""

from __future__ import annotations

import base64
import hashlib
import re
import xml.etree.ElementTree as ET
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import date
from functools import cache
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from threadpoolctl import threadpool_limits

from eval.report import Made, fitted_beliefs, page, report_figures, write_report
from eval.report.drawing import Canvas, Scale, shortened
from eval.report.figures import ReportFigures
from eval.report.markup import element, escaped
from eval.report.words import answers, title
from eval.routing.points import Point, Sides, baselines
from eval.routing.verdict import verdict_of
from experts.errors import DataError
from tests.eval.synthetic import experiment, outcomes, sides

VOID = {"meta", "br", "hr", "img", "wbr"}
MADE = Made(
    data="made up",
    pool=None,
    routers=("knn", "ridge"),
    embedder="hashing",
    seed=0,
    n_dev=180,
    n_test=60,
    n_tasks=2,
    version="0.0",
    day=date(2026, 1, 2),
)
HOSTILE = (
    "<script>alert(1)</script>",
    '" onmouseover="alert(1)',
    "</title></style></script><img src=x onerror=alert(1)>",
    "& &lt; &#60;b&#62; ]]> <!-- --> {{7*7}} ${x}",
    "nul\0 bell\a bidi\u202edcba\u2066 half \ud800 zero\u200bwidth",
    "https://example.com/" + "x" * 400,
)


class Page(HTMLParser):
    """A strict reader: what is opened is closed, in order."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.tags: list[tuple[str, Mapping[str, str | None]]] = []
        self.texts: list[str] = []
        self.cells: list[str] = []
        self.raw: dict[str, list[str]] = {}
        self.feed(text)
        self.close()
        assert not self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert len({name for name, _ in attrs}) == len(attrs), "an attribute twice"
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)
        if tag in ("th", "td"):
            self.cells.append("")

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.texts.append(data)
        if self.open and self.open[-1] in ("style", "script", "title"):
            self.raw.setdefault(self.open[-1], []).append(data)
        if self.cells and self.open and self.open[-1] in ("th", "td"):
            self.cells[-1] += data

    def all(self, tag: str) -> list[Mapping[str, str | None]]:
        return [attrs for name, attrs in self.tags if name == tag]


@cache
def figures(pool: str) -> ReportFigures:
    ready, points = experiment(pool)
    return figures_of(ready, points)


def figures_of(ready: Sides, points: Sequence[Point]) -> ReportFigures:
    with threadpool_limits(1):
        return report_figures(points, ready, verdict_of(points), fitted_beliefs(ready))


@cache
def hostile() -> str:
    """A report on a pool whose models and tasks were named by somebody who means harm."""
    ready, points = experiment("specialists")
    queries = tuple(
        replace(q, task=HOSTILE[i % 3], prompt=HOSTILE[0])
        for i, q in enumerate(ready.matrix.queries)
    )
    named = replace(ready, matrix=replace(ready.matrix, models=HOSTILE, queries=queries))
    made = replace(MADE, data=HOSTILE[0], pool=HOSTILE[1], embedder=HOSTILE[2])
    return page(figures_of(named, points), made)


@pytest.fixture(params=["specialists", "crowd"])
def text(request: pytest.FixtureRequest) -> str:
    return page(figures(request.param), MADE)


def test_the_page_is_well_formed(text: str) -> None:
    parsed = Page(text)
    ids = [a["id"] for _, a in parsed.tags if "id" in a]
    assert len(set(ids)) == len(ids)
    for _, attrs in parsed.tags:
        for name in ("aria-labelledby",):
            assert attrs.get(name) is None or attrs[name] in ids
    for link in parsed.all("a"):
        assert str(link["href"]).removeprefix("#") in ids
    assert len(parsed.all("h1")) == 1
    assert parsed.all("html")[0]["lang"] == "en"


def test_nothing_is_fetched_and_nothing_can_be(text: str) -> None:
    parsed = Page(text)
    for tag, attrs in parsed.tags:
        assert tag not in {"link", "iframe", "object", "embed", "img", "base", "form", "image"}
        for name, value in attrs.items():
            assert not name.startswith("on")
            assert name not in {"src", "srcset", "style", "xlink:href"}
            if name == "href":
                assert str(value).startswith("#")
    assert "http" not in re.sub(r"http-equiv", "", text)
    assert "url(" not in text
    assert "@import" not in text


def test_the_policy_of_the_page_allows_its_own_style_and_script_only(text: str) -> None:
    parsed = Page(text)
    [policy] = [m["content"] for m in parsed.all("meta") if "http-equiv" in m]
    assert "default-src 'none'" in str(policy)
    assert "unsafe" not in str(policy)
    for tag in ("style", "script"):
        [content] = parsed.raw[tag]
        digest = base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
        assert f"{tag}-src 'sha256-{digest}'" in str(policy)


def test_every_chart_is_drawn_and_described(text: str) -> None:
    charts = [a for a in Page(text).all("svg") if a.get("role") == "img"]
    assert len(charts) >= 12
    assert all(len(str(a["aria-label"])) > 20 for a in charts)
    for drawn in re.findall(r'<svg[^>]*role="img".*?</svg></div>', text, re.S):
        ET.fromstring(drawn.removesuffix("</div>"))
    assert "nan" not in "".join(re.findall(r'(?:x|y|cx|cy|points|x1)="[^"]*"', text))
    assert len(text.encode()) < 1_000_000


def test_every_policy_and_every_model_is_in_a_table() -> None:
    ready, points = experiment("specialists")
    cells = Page(page(figures("specialists"), MADE)).cells
    assert {p.policy for p in points} <= set(cells)
    assert set(ready.matrix.models) <= set(cells)
    assert set(ready.matrix.tasks) <= set(cells)
    f = figures("specialists")
    assert f"as good, cheapest: {f.equal.figures.policy}" in cells
    assert f"most accurate: {f.best.figures.policy}" in cells


def test_both_answers_and_their_intervals_are_at_the_top() -> None:
    f = figures("crowd")
    said = " ".join(Page(page(f, MADE)).texts)
    start, end = said.index("Two answers"), said.index("What accuracy costs")
    for answer in answers(f):
        assert start < said.index(answer.figure, start) < end
        assert start < said.index(answer.evidence) < end
        assert "interval" in answer.evidence or "development" in answer.evidence
    assert title(f) in said


def test_names_stay_names() -> None:
    parsed = Page(hostile())
    assert {tag for tag, _ in parsed.tags} == {tag for tag, _ in Page(
        page(figures("specialists"), MADE)).tags}  # fmt: skip
    assert len(parsed.all("script")) == 1
    assert not [name for _, attrs in parsed.tags for name in attrs if name.startswith("on")]
    assert HOSTILE[0] in parsed.cells
    assert HOSTILE[1] in parsed.cells


def test_invisible_and_turning_characters_are_shown() -> None:
    text = hostile()
    assert not {"\0", "\a", "\u202e", "\u2066", "\u200b", "\ud800"} & set(text)
    assert "bidi\ufffddcba" in text
    assert text.encode("utf-8")


@given(st.text())
def test_escaped_text_is_text(text: str) -> None:
    markup = element("p", text, title=text)
    parsed = Page(markup)
    assert [tag for tag, _ in parsed.tags] == ["p"]
    assert set(parsed.all("p")[0]) == {"title"}
    assert not set('<>"') & set(escaped(text))


def test_a_report_is_written_whole_or_not_at_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "report.html"
    write_report(target, figures("crowd"), MADE)
    first = target.read_text(encoding="utf-8")
    assert first.startswith("<!doctype html>")

    def breaks(*_: object) -> str:
        raise RuntimeError

    monkeypatch.setattr("eval.report.page", breaks)
    with pytest.raises(RuntimeError):
        write_report(target, figures("crowd"), MADE)
    assert target.read_text(encoding="utf-8") == first
    assert [p.name for p in tmp_path.iterdir() if p.is_file()] == ["report.html"]


def test_where_no_report_can_be_written_is_said_before(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"is a folder\. Name the file .*report\.html"):
        write_report(tmp_path, figures("crowd"), MADE)
    with pytest.raises(DataError, match="no folder"):
        write_report(tmp_path / "nowhere" / "report.html", figures("crowd"), MADE)


# Figures.


def test_the_value_of_a_model_is_what_is_lost_without_it() -> None:
    models = {m.model: m for m in figures("specialists").models}
    never = models["never"]
    assert (never.accuracy, never.accuracy_loss, never.only_right) == (0, 0, 0)
    for name in ("solver", "gardener"):
        low, high = models[name].accuracy_loss_ci
        assert 0 < low <= (models[name].accuracy_loss or 0) <= high
    assert sum(m.dollars_best for m in models.values()) == pytest.approx(1)


def test_without_its_only_model_a_pool_has_no_value() -> None:
    ready = sides(outcomes({"alone": (0.7, 0.5)}, n=64))
    f = figures_of(ready, baselines(ready))
    assert [m.objective_rise for m in f.models] == [None]
    assert f.equal.is_the_single
    assert "No: nothing" in answers(f)[0].answer
    assert Page(page(f, MADE)).all("h1")


def test_regret_is_against_the_best_model_for_every_query() -> None:
    f = figures("specialists")
    assert [t.task for t in f.tasks] == [
        t.task for t in sorted(f.tasks, key=lambda t: -t.policy_regret)
    ]
    for t in f.tasks:
        assert t.policy_regret == pytest.approx(t.best_possible - t.policy)
        assert t.single_regret == pytest.approx(t.best_possible - t.single)
        assert t.policy_regret_ci[0] <= t.policy_regret <= t.policy_regret_ci[1]
    assert sum(t.n for t in f.tasks) == len(experiment("specialists")[0].test)


def test_the_objective_of_the_best_single_model_is_the_measure() -> None:
    f = figures("crowd")
    single = next(p for p in experiment("crowd")[1] if p.policy == "best-single")
    assert f.break_even_usd * (1 - single.dev_score.mean()) == pytest.approx(single.dev_cost.mean())
    o = f.objective
    # Where being right is worth any model's dollars: below, giving up is cheaper than the oracle.
    dear = o.prices_usd > experiment("crowd")[0].matrix.cost_usd.max()
    for other in o.relative.values():
        assert (o.relative["oracle"][dear] <= other[dear] + 1e-9).all()
    assert ((o.low <= o.relative[o.leader]) & (o.relative[o.leader] <= o.high)).all()


def test_a_policy_that_promises_nothing_has_no_reliability() -> None:
    ready, points = experiment("crowd")
    silent = [replace(p, test_p=None) for p in points]
    f = figures_of(ready, silent)
    assert f.believed is None
    parsed = Page(page(f, MADE))
    assert "Can its confidence be believed?" not in parsed.texts
    assert "#belief" not in [a["href"] for a in parsed.all("a")]


def test_free_models_are_drawn_on_a_linear_scale() -> None:
    ready = sides(outcomes({"free": (0.5, 0.5), "paid": (0.9, 0.9)}, n=64))
    matrix = replace(ready.matrix, cost_usd=np.tile([0.0, 0.01], (64, 1)))
    ready = replace(ready, matrix=matrix)
    text = page(figures_of(ready, baselines(ready)), MADE)
    assert ">dollars per 1000 queries<" in text
    assert "nan" not in "".join(re.findall(r'(?:x|y|cx|cy|points|x1)="[^"]*"', text))


# Drawing.


@given(
    st.floats(1e-9, 1e6), st.floats(1.001, 1e9), st.booleans(), st.integers(2, 10)
)  # fmt: skip
@settings(deadline=None)
def test_ticks_are_few_and_within(low: float, factor: float, log: bool, n: int) -> None:
    scale = Scale(low=low, high=low * factor, start=0, end=100, log=log)
    ticks = scale.ticks(n)
    assert 1 <= len(ticks) <= n + 1
    assert ticks == sorted(ticks)
    if len(ticks) > 1:
        assert all(-1e-6 <= scale(t) <= 100 + 1e-6 for t in ticks)


def test_labels_that_do_not_fit_are_left_out_unless_they_must_be_there() -> None:
    canvas = Canvas(200, 120, left=20)
    for _ in range(20):
        canvas.label(100, 60, "a model", "quiet")
    canvas.label(100, 60, "the pick", "strong", must=True)
    drawn = canvas.element("labels")
    assert 1 <= drawn.count("a model") < 20
    assert drawn.count("the pick") == 1


@given(st.text(min_size=1), st.integers(3, 30))
def test_shortened_text_is_short(text: str, n: int) -> None:
    assert len(shortened(text, n)) <= n
