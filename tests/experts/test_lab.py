"""The laboratory's questions: right answers, clean splits, wordings that training never sees."""

from __future__ import annotations

import re
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eval.graders import exact
from experts.answers import extract_answer
from experts.lab.corpus import NOISE
from experts.lab.questions import SKILLS, LabQuestion, LabSkill, draw_question
from experts.lab.questions.facts import table
from experts.lab.questions.grammar import FORMS, SHELLS, ask
from experts.lab.questions.units import METRIC, MONTHS, WEEKDAYS
from experts.lab.questions.vocabulary import closed_words
from experts.lab.tokenizers import CHAT_TEMPLATE, chat_text
from skills.taxonomy import Taxonomy

BY_NAME = {s.name: s for s in SKILLS}
skills = pytest.mark.parametrize("skill", SKILLS, ids=lambda s: s.name)


def drawn(name: str, n: int = 200) -> list[LabQuestion]:
    rng = Random(3)
    return [draw_question(BY_NAME[name], rng, "train") for _ in range(n)]


def numbers(text: str) -> list[int]:
    return [int(n) for n in re.findall(r"\d+", text)]


def test_every_lab_skill_is_in_the_shipped_taxonomy() -> None:
    assert {s.name: s.category for s in SKILLS} == Taxonomy.load().category_of


@skills
def test_work_shown_ends_in_the_answer(skill: LabSkill) -> None:
    rng = Random(0)
    for _ in range(200):
        question = draw_question(skill, rng, "train", noise=NOISE)
        assert extract_answer(question.worked) == question.answer
        assert "{" not in question.text


@skills
def test_a_problem_belongs_to_one_split(skill: LabSkill) -> None:
    rng = Random(1)
    pattern = next(p for p in skill.patterns if p.split == "train")
    seen: dict[str, str] = {}
    for _ in range(500):
        draw = skill.draw(rng)
        split = skill.split_of(draw, pattern)
        assert seen.setdefault(draw.key, split) == split
    assert set(seen.values()) == {"train", "val", "test"}


def test_a_conversion_is_one_problem_however_its_units_are_spelled() -> None:
    short = {s: small for up, large, down, small, _ in METRIC for s in down} | {
        s: large for up, large, down, small, _ in METRIC for s in up
    }
    rng, keys = Random(5), {}
    for _ in range(3000):
        draw = BY_NAME["metric"].draw(rng)
        value = re.match(r"\d+", draw.slots["q"])[0]
        problem = value, short[draw.slots["v"]], short[draw.slots["u"]]
        assert keys.setdefault(problem, draw.key) == draw.key


def test_a_syllogism_is_one_problem_however_it_asks() -> None:
    rng, keys = Random(6), {}
    for _ in range(3000):
        draw = BY_NAME["syllogism"].draw(rng)
        premises = frozenset((draw.slots["s"], draw.slots["t"]))
        problem = premises, draw.slots["q"].split()[2:].__str__()
        assert keys.setdefault(problem, draw.key) == draw.key


@skills
def test_some_wordings_are_held_out_and_never_drawn_for_training(skill: LabSkill) -> None:
    held_out = {p.text for p in skill.patterns if p.split != "train"}
    assert 0.08 < len(held_out) / len(skill.patterns) < 0.4
    kept = [p for p in skill.patterns if p.split == "train"]
    assert len(kept) >= 50
    assert not held_out & {p.text for p in kept}


def test_shells_are_held_out_too() -> None:
    for form in FORMS[:-1]:
        assert any(s.split == "test" for s in SHELLS if s.form == form)
        assert sum(s.split == "train" for s in SHELLS if s.form == form) > 20


@skills
def test_each_pattern_can_be_asked(skill: LabSkill) -> None:
    rng = Random(2)
    for pattern in skill.patterns:
        text = ask(pattern, skill.draw(rng).slots, rng)
        assert not re.search(r"[{}\[\]|]|  |\w [?.,!]( |$)", text), text


def test_sums_differences_and_products() -> None:
    for question in drawn("multiplication"):
        a, b = numbers(question.worked)[:2]
        assert int(question.answer) == a * b
    for question in drawn("addition"):
        a, b = numbers(question.worked)[:2]
        assert int(question.answer) == a + b
        assert {a, b} <= set(numbers(question.text))
    for question in drawn("subtraction"):
        a, b = numbers(question.worked)[:2]
        assert abs(int(question.answer)) == a - b
        assert question.answer.startswith("-") == ("Answer" in question.worked)


def test_lists_are_sorted() -> None:
    for question in drawn("sort_words"):
        words = question.answer.split(", ")
        assert words == sorted(words)
        assert all(w in question.text for w in words)
    for question in drawn("sort_numbers"):
        ordered = numbers(question.answer)
        assert ordered in (sorted(ordered), sorted(ordered, reverse=True))


def test_days_and_months_go_round() -> None:
    for name, names in (("weekday", WEEKDAYS), ("month", MONTHS)):
        for question in drawn(name):
            start = re.search(r"0 (\w+)", question.worked)[1]
            assert start in question.text
            n = next(k for k in numbers(question.text) if k > 0)
            here, there = names.index(start), names.index(question.answer)
            assert (there - here) % len(names) in (n % len(names), -n % len(names))


def test_true_and_false() -> None:
    for question in drawn("boolean"):
        steps = [
            s.replace("true", "True").replace("false", "False")
            for s in question.worked.split(" = ")
        ]
        values = {eval(s, {"__builtins__": {}}) for s in steps}
        assert values == {question.answer == "true"}


def test_facts_are_those_of_the_tables() -> None:
    capital = {row["country"]: row["capital"] for row in table("countries")}
    for question in drawn("capital"):
        assert question.answer in {v for k, v in capital.items() if k in question.text}
    assert len(table("elements")) == 118
    assert [int(row["number"]) for row in table("elements")] == list(range(1, 119))


def test_letters_stay_visible_in_what_is_to_be_rewritten() -> None:
    assert not closed_words() & {"planet", "Mauritania", "Paris", "helium"}


@given(seed=st.integers(0, 10_000))
@settings(max_examples=200)
def test_noise_never_touches_what_is_asked_about(seed: int) -> None:
    rng = Random(seed)
    skill = BY_NAME["capital"]
    pattern = rng.choice([p for p in skill.patterns if p.split == "train"])
    draw = skill.draw(rng)
    text = ask(pattern, draw.slots, rng, noise=NOISE)
    assert draw.slots["k"].lower() in text.lower()


def test_the_quick_chat_format_is_the_templates() -> None:
    import jinja2

    turns = [("system", "Be brief."), ("user", "Hi?"), ("assistant", "Yes."), ("user", "And?")]
    messages = [{"role": role, "content": content} for role, content in turns]
    rendered = jinja2.Template(CHAT_TEMPLATE).render(messages=messages, add_generation_prompt=True)
    assert chat_text(turns) == rendered


def test_the_grader_takes_reference_answers() -> None:
    rng = Random(4)
    for skill in SKILLS:
        question = draw_question(skill, rng, "test")
        assert exact(question.worked, question.answer) == 1
