"""A scorer of a bundled expert: trained, put into a pool, and asked whether answers are right."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest
from sklearn.metrics import roc_auc_score

from eval.latent.scoring import lab_set
from eval.questions import Question, lab_questions
from experts.bundled import FOLDER
from experts.errors import BadScorer, ConfigError
from experts.expert import Expert
from experts.scoring.scorer import AnswerScorer
from experts.values import Arm, Completion, Delta, Sampling
from orchestrator.config import load_config
from orchestrator.pool import make_experts
from tests.typed import typed


@pytest.fixture(scope="module")
def scorer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of `units`, by the command, on half a thousand questions."""
    out = tmp_path_factory.mktemp("scorer") / "units"
    run = typed("latent", "scorer", "--model", "units", "--n", "32", "--out", str(out), "--json")
    assert run.returncode == 0, run.stderr
    told = json.loads(run.stdout)
    assert told["n"] == 28 * 8
    assert told["ways"]["own odds"]["AUC"]["value"] > 0.9
    return out


@pytest.fixture(scope="module")
def pool(scorer: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Expert]:
    """`units` with its scorer, and `plain` without one."""
    path = tmp_path_factory.mktemp("pool") / "conclave.yaml"
    one = f"kind: local, folder: {FOLDER / 'units'}, "
    prices = "prices: {input_usd_per_mtok: 1, output_usd_per_mtok: 1}"
    path.write_text(
        f"experts:\n  - {{{one}name: units, scorer: {scorer}, {prices}}}\n"
        f"  - {{{one}name: plain, {prices}}}\n"
    )
    return make_experts(load_config(path))


@pytest.fixture(scope="module")
def questions() -> list[Question]:
    return lab_questions(4, "test", held_out_wording=True, seed=77)


def completed(expert: Expert, questions: list[Question]) -> list[Completion]:
    arm = Arm(expert.card.name)
    return asyncio.run(expert.complete([q.call(arm, Sampling(max_tokens=24)) for q in questions]))


def test_right_answers_are_thought_likelier(
    pool: dict[str, Expert], questions: list[Question]
) -> None:
    said = completed(pool["units"], questions)
    right = [q.score(c.answer) > 0.5 for q, c in zip(questions, said, strict=True)]
    assert roc_auc_score(right, [c.own_odds for c in said]) > 0.9


def test_the_answers_are_the_same_and_nobody_else_has_odds(
    pool: dict[str, Expert], questions: list[Question]
) -> None:
    scored, plain = completed(pool["units"], questions), completed(pool["plain"], questions)
    assert [c.text for c in scored] == [c.text for c in plain]
    assert [c.logprob for c in scored] == pytest.approx([c.logprob for c in plain], rel=1e-4)
    assert {c.own_odds for c in plain} == {None}


def test_one_question_has_the_odds_that_it_has_among_many(
    pool: dict[str, Expert], questions: list[Question]
) -> None:
    together = completed(pool["units"], questions[:20])
    alone = [completed(pool["units"], [q])[0] for q in questions[:20]]
    assert [c.own_odds for c in alone] == pytest.approx([c.own_odds for c in together], abs=1e-3)


def test_a_stream_ends_with_them(pool: dict[str, Expert], questions: list[Question]) -> None:
    async def streamed() -> list[Delta | Completion]:
        call = questions[0].call(Arm("units"), Sampling(max_tokens=24))
        return [piece async for piece in pool["units"].stream(call)]

    *_, last = asyncio.run(streamed())
    assert isinstance(last, Completion)
    [whole] = completed(pool["units"], questions[:1])
    assert last.own_odds == pytest.approx(whole.own_odds, abs=1e-3)


def test_a_fit_learns_what_they_are_worth(scorer: Path, tmp_path: Path) -> None:
    """From the command line to the fitted state: recorded, fitted, and in the answer's trace."""
    path, at = tmp_path / "conclave.yaml", ("--config", str(tmp_path / "conclave.yaml"))
    prices = "prices: {input_usd_per_mtok: 1, output_usd_per_mtok: 1}"
    own = f"folder: {FOLDER / 'units'}, scorer: {scorer}"
    path.write_text(
        f"data_dir: {tmp_path}\nexperts:\n  - {{kind: local, name: units, {own}, {prices}}}\n"
    )
    asked = lab_questions(5, "val", held_out_wording=False, seed=1)
    questions = tmp_path / "questions.jsonl"
    questions.write_text("".join(f"{q.model_dump_json()}\n" for q in asked))
    for command in (["record", str(questions)], ["fit"]):
        run = typed(*command, *at)
        assert run.returncode == 0, run.stderr
    fitted = json.loads(next(tmp_path.rglob("fitted.json")).read_text())
    *_, of_own_odds = fitted["confidence"]["units"]
    assert of_own_odds > 0.1
    run = typed("ask", "How many hours are 3 days?", "--json", *at)
    assert run.returncode == 0, run.stderr
    assert isinstance(json.loads(run.stdout)["calls"][0]["own_odds"], float)


def test_it_is_of_one_model_alone(scorer: Path, tmp_path: Path) -> None:
    with pytest.raises(BadScorer, match="Train one for this model"):
        AnswerScorer.load(scorer, FOLDER / "words")
    with pytest.raises(BadScorer, match="conclave latent scorer"):
        AnswerScorer.load(tmp_path, FOLDER / "units")
    (tmp_path / "scorer.json").write_text((scorer / "scorer.json").read_text())
    (tmp_path / "scorer.safetensors").write_bytes(b"none")
    with pytest.raises(BadScorer, match=r"scorer\.safetensors"):
        AnswerScorer.load(tmp_path, FOLDER / "units")


def test_a_pool_refuses_the_scorer_of_another(scorer: Path, tmp_path: Path) -> None:
    path = tmp_path / "conclave.yaml"
    path.write_text(
        f"experts:\n  - {{kind: local, name: w, folder: {FOLDER / 'words'}, scorer: {scorer}, "
        "prices: {input_usd_per_mtok: 1, output_usd_per_mtok: 1}}\n"
    )
    with pytest.raises((BadScorer, ConfigError), match="Train one for this model"):
        make_experts(load_config(path))


def test_questions_for_fitting_are_none_to_judge_by() -> None:
    drawn = lab_set(16, seed=3)
    parts = {s: {q.question for q in drawn if q.split == s} for s in ("train", "val", "test")}
    assert all(parts.values())
    assert not parts["test"] & (parts["train"] | parts["val"])


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--model", "nobody"), "neither a bundled expert"),
        (("--model", "units", "--questions", "{file}"), "split"),
    ],
)
def test_what_cannot_be_is_said(arguments: tuple[str, ...], said: str, tmp_path: Path) -> None:
    file = tmp_path / "few.jsonl"
    file.write_text('{"question": "2 + 2?", "answer": "4", "split": "train"}\n')
    told = [a.format(file=file) for a in arguments]
    run = typed("latent", "scorer", *told, "--out", str(tmp_path / "out"))
    assert run.returncode != 0
    assert said in run.stderr
    assert "Traceback" not in run.stderr
