"""What controls leave of thoughts, in training and at evaluation; whom a router asks."""

from __future__ import annotations

import pytest
import torch

from eval.latent.controls import altered
from experts.latent.net.member import Member
from experts.latent.net.router import Route
from experts.latent.plan import Control
from experts.latent.training.examples import Example, Examples
from experts.values import Message
from tests.experts.latent.teams import members, untrained

PEER, PRIMARY = "people", "guilds"
ASKED = [
    Example("What is the token of the guild of Bem Stadur?", "x"),
    Example("Spell journal backwards, then name the last letter of it.", "j"),
    Example("Which currency has the country of Paris?", "euro"),
]


@pytest.fixture(scope="module")
def frozen() -> dict[str, Member]:
    return members()


def shown(frozen: dict[str, Member], control: Control) -> Examples:
    examples = Examples(frozen, ASKED, 12)
    examples.show(control, seed=1)
    return examples


def test_a_shuffled_training_shows_each_question_the_thoughts_about_one_of_them(
    frozen: dict[str, Member],
) -> None:
    rows = range(len(ASKED))
    own = shown(frozen, "none").thought(PEER, rows).answer.states
    moved = shown(frozen, "shuffled").thought(PEER, rows).answer.states
    order = [next(j for j in rows if torch.equal(moved[i], own[j])) for i in rows]
    assert sorted(order) == list(rows)
    assert order != list(rows)


def test_a_zeroed_training_shows_nothing_not_even_how_long_an_answer_is(
    frozen: dict[str, Member],
) -> None:
    examples = shown(frozen, "zeroed")
    thought = examples.thought(PEER, range(len(ASKED)))
    assert not thought.answer.states.any()
    assert thought.answer.mask.all()
    asked = examples.asked(PRIMARY, (PEER,), range(len(ASKED)), with_answers=False)
    assert asked.slots_mask.all()


def test_under_a_control_no_peer_reads_along(frozen: dict[str, Member]) -> None:
    for control in ("shuffled", "zeroed"):
        thought = shown(frozen, control).whole_thoughts(PRIMARY, (PEER,), [0])[PEER]
        assert thought.prompt is thought.along is None


def test_at_evaluation_thoughts_are_about_the_question_before(frozen: dict[str, Member]) -> None:
    thoughts = shown(frozen, "none").thoughts((PEER,), range(len(ASKED)))
    own, moved = thoughts[PEER].answer, altered(thoughts, "shuffled")[PEER].answer
    for i in range(len(ASKED)):
        assert torch.equal(moved.states[i], own.states[i - 1])
        assert torch.equal(moved.mask[i], own.mask[i - 1])
    assert torch.equal(moved.ends, own.ends)
    zeroed = altered(thoughts, "zeroed")[PEER]
    assert not zeroed.answer.states.any()
    assert zeroed.answer.mask.all()
    assert zeroed.words is None


def test_a_question_alone_is_not_shown_its_own_thoughts(frozen: dict[str, Member]) -> None:
    thoughts = shown(frozen, "none").thoughts((PEER,), [0])
    assert not altered(thoughts, "shuffled")[PEER].answer.states.any()


@pytest.mark.parametrize("top_k", [1, 2])
def test_a_router_asks_so_many_peers_at_most_and_never_the_one_that_speaks(
    top_k: int, frozen: dict[str, Member]
) -> None:
    team = untrained("soft_prefix", frozen, top_k=top_k)
    router = team.head.router
    with torch.no_grad():
        router.speak_bias[1] = 1.0
        router.ask_bias[:] = torch.tensor([2.0, 3.0, 1.0]).repeat(3)  # of people, guilds, sums
    route = team.route([Message(role="user", content=ASKED[0].question)])
    assert route == Route("guilds", ("people", "sums")[:top_k])
