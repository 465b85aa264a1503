"""Listed options, and what their form alone tells."""

from __future__ import annotations

import time

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from experts.errors import NotFitted
from routers.options import MIN_QUESTIONS, N_FORMS, OptionPrior, form_features, listed_options

LETTERS = "ABCDEFGH"


def asked(stem: str, options: list[str]) -> str:
    listed = "\n".join(f"{x}. {o}" for x, o in zip(LETTERS, options, strict=False))
    return f"{stem}\n{listed}"


@pytest.mark.parametrize(
    ("question", "options"),
    [
        ("Which is a metal?\nA. iron\nB. salt", ["iron", "salt"]),
        ("Which?\nA) iron\nB) salt\nC) wood", ["iron", "salt", "wood"]),
        ("Which?\n(A) iron\n(B) salt", ["iron", "salt"]),
        ("Which?\nA: iron\nB: salt", ["iron", "salt"]),
        ("Which?\n\n  A. iron\n\n\n  B. salt\n\n", ["iron", "salt"]),
        ("Which?\r\nA. iron\r\nB. salt\r\n", ["iron", "salt"]),
        ("Which?\nA. iron\nand steel\nB. salt", ["iron\nand steel", "salt"]),
        ("A. iron\nB. salt", ["iron", "salt"]),
        ("Which?\nA. \nB. salt", ["", "salt"]),
    ],
)
def test_listed_options_are_found(question: str, options: list[str]) -> None:
    assert listed_options(question)[1] == options


@pytest.mark.parametrize(
    "question",
    [
        "",
        "What is 2 + 3?",
        "Which?\na. iron\nb. salt",  # lower case: a list like any other
        "Which?\nA. iron",  # one option is none
        "Which?\nB. iron\nC. salt",
        "Which: A. iron B. salt",  # in a line
        "Which?\nA. iron\nC. salt",
        "Which?\nA.iron\nB.salt",
        "A\nB\nC",
    ],
)
def test_where_no_options_are_listed_all_is_stem(question: str) -> None:
    assert listed_options(question) == (question, [])


def test_a_list_in_the_stem_is_not_the_options() -> None:
    stem = "Two rules hold:\nA. No dogs.\nB. No cats.\nWho may enter?\n"
    assert listed_options(stem + "A. a dog\nB. a horse\nC. a cat") == (
        stem,
        ["a dog", "a horse", "a cat"],
    )


def test_a_broken_run_ends_the_options() -> None:
    # D stands third: were it an option, its place would not be its letter's.
    question = "Which?\nA. iron\nB. salt\nZ. tin\nD. wood"
    assert listed_options(question)[1] == ["iron", "salt\nZ. tin\nD. wood"]


def test_the_alphabet_ends() -> None:
    letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
    question = "\n".join(f"{x}. option" for x in letters + "[")
    assert len(listed_options(question)[1]) == 26


def test_blank_lines_take_no_time() -> None:
    start = time.perf_counter()
    assert listed_options("Which?" + "\n" * 100_000 + "A. iron\nB. salt")[1] == ["iron", "salt"]
    assert time.perf_counter() - start < 1  # 5 minutes when every line looked at all further ones


awkward = st.text(st.sampled_from("ABC.)(: \n\r1,-é²٣") | st.characters(), max_size=80)


@given(awkward)
@example("A. " + "9" * 399 + "\nB. " + "8" * 399)
@example("A. -" + "9" * 350 + "\nB. 1")
@example("A. ١٢\nB. ²")
@example("A. 1,,,\nB. 1.")
def test_forms_of_any_text_are_finite(question: str) -> None:
    stem, options = listed_options(question)
    assert question.startswith(stem)
    if options:
        assert len(options) >= 2
        forms = form_features(stem, options)
        assert forms.shape == (len(options), N_FORMS)
        assert np.isfinite(forms).all()
        assert np.abs(forms).max() < 1e3


def test_forms_tell_length_place_and_number() -> None:
    forms = form_features("How many?", ["1", "20", "about 300 or so"])
    assert forms[:, 0].tolist() == [0, 0.5, 1]  # place
    assert forms[:, 6].tolist() == [0, 0.5, 1]  # rank of length
    assert forms[:, 9].all()  # numbers
    assert forms[:, 11].tolist() == [0, 0.5, 1]  # rank of value


def exam(n: int, *, style: bool, seed: int) -> tuple[list[str], list[str]]:
    """Questions with four options of random length; with style, the longest is right."""
    rng = np.random.default_rng(seed)
    questions, right = [], []
    for i in range(n):
        n_words = rng.permutation([1, 3, 5, 9])
        questions.append(asked(f"Question {i}?", [" ".join(rng.choice(WORDS, k)) for k in n_words]))
        right.append(LETTERS[int(n_words.argmax() if style else rng.integers(4))])
    return questions, right


WORDS = ["salt", "iron", "wood", "tin", "glass", "wool"]


@pytest.fixture(scope="module")
def styled() -> OptionPrior:
    return OptionPrior().fit(*exam(600, style=True, seed=0))


def test_a_planted_style_is_learned(styled: OptionPrior) -> None:
    questions, right = exam(200, style=True, seed=1)
    odds = np.array(styled.log_odds(questions))
    assert (odds.argmax(axis=1) == [LETTERS.index(r) for r in right]).mean() > 0.95
    np.testing.assert_allclose(np.exp(odds).mean(axis=1), 1, atol=1e-4)  # P over chance, 1/4


def test_where_there_is_no_style_none_is_learned() -> None:
    prior = OptionPrior().fit(*exam(1500, style=False, seed=2))
    odds = np.array(prior.log_odds(exam(200, style=False, seed=3)[0]))
    assert np.abs(odds).mean() < 0.25
    assert abs(odds.mean()) < 0.1


def test_too_few_questions_teach_nothing() -> None:
    questions, right = exam(MIN_QUESTIONS - 1, style=True, seed=4)
    odds = OptionPrior().fit(questions, right).log_odds([questions[0], "What is 2 + 3?"])
    assert [o.tolist() for o in odds] == [[0, 0, 0, 0], []]


def test_unknown_and_impossible_letters_are_left_out() -> None:
    questions, _ = exam(MIN_QUESTIONS, style=True, seed=5)
    for right in (None, "", "Z", "a", "?"):
        prior = OptionPrior().fit(questions, [right] * len(questions))
        assert prior.state() == {}  # nothing learned


def test_questions_of_every_kind_are_judged_together(styled: OptionPrior) -> None:
    questions = [
        "What is 2 + 3?",
        asked("Which?", ["iron", "salt and much else besides"]),
        "",
        asked("Which?", ["a"] * 8),
        asked("Which?", ["9" * 399, "1"]),
    ]
    odds = styled.log_odds(questions)
    assert [len(o) for o in odds] == [0, 2, 0, 8, 2]
    assert all(np.isfinite(o).all() for o in odds)
    assert odds[1][1] > odds[1][0]
    assert styled.log_odds([]) == []


def test_a_number_without_end_spoils_nothing() -> None:
    questions, right = exam(300, style=True, seed=6)
    questions[0] = asked("How many?", ["9" * 399, "1", "2", "3"])
    odds = np.array(OptionPrior().fit(questions, right).log_odds(questions[1:]))
    best = [LETTERS.index(r) for r in right[1:]]
    assert np.isfinite(odds).all()
    assert odds[np.arange(299), best].mean() > 0.1


def test_the_state_is_the_prior(styled: OptionPrior) -> None:
    questions, _ = exam(20, style=True, seed=7)
    restored = OptionPrior.from_state(styled.state())
    for ours, theirs in zip(styled.log_odds(questions), restored.log_odds(questions), strict=True):
        assert (ours == theirs).all()
    untaught = OptionPrior.from_state({})
    assert untaught.log_odds(questions)[0].tolist() == [0, 0, 0, 0]


def test_log_odds_before_fit_says_so() -> None:
    with pytest.raises(NotFitted, match="before fit"):
        OptionPrior().log_odds(["What is 2 + 3?"])
