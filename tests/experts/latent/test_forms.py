"""The three forms of exchange: nothing before training, no look ahead, the same in any batch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest
import torch

from experts.latent.card import FORMS, FormName
from experts.latent.net.asked import ask
from experts.latent.net.member import Member
from experts.latent.net.prompts import Prompt
from experts.latent.net.router import Route
from experts.latent.net.team import Team
from experts.latent.net.thoughts import Reader, slots_used
from experts.latent.training.examples import Example, Examples
from experts.latent.training.routing import token_losses
from experts.local.decode import decode
from experts.values import Message, Sampling
from tests.experts.latent.teams import members, noisy, untrained

QUESTIONS = (
    "What is the token of the guild of Bem Stadur?",
    "Spell journal backwards, then name the last letter of it. Thanks!",
    "Work out the sum of 3 and 5. How many days are that many weeks?",
)
ROUTE = Route("guilds", ("people", "sums"))


@pytest.fixture(scope="module")
def frozen() -> dict[str, Member]:
    """In double precision: what differs then differs for a reason, not by the order of sums."""
    return members(torch.float64)


def prompts_of(team: Team, texts: Sequence[str]) -> dict[str, list[Prompt]]:
    return {
        name: [member.prompt([Message(role="user", content=text)]) for text in texts]
        for name, member in team.members.items()
    }


def say(
    team: Team, route: Route, texts: Sequence[str], until: Sequence[int] | None = None
) -> list[list[int]]:
    """until: tokens of each row."""
    said: list[list[int]] = [[] for _ in texts]
    samplings = [Sampling(max_tokens=n) for n in until or [8] * len(texts)]
    # Without end tokens, so that every row says as many.
    steps = team.steps(route, prompts_of(team, texts))
    for step in decode(steps, samplings, end_ids=frozenset()):
        for token in step:
            said[token.row].append(token.token_id)
    return said


@pytest.mark.parametrize("form", FORMS)
def test_an_untrained_head_is_its_first_member(form: FormName, frozen: dict[str, Member]) -> None:
    team = untrained(form, frozen)
    [route] = {team.route([Message(role="user", content=q)]) for q in QUESTIONS}
    assert route == Route("people")
    people = frozen["people"]
    prompts = prompts_of(team, QUESTIONS)
    logits = team.steps(route, prompts).first()
    for row, prompt in zip(logits, prompts["people"], strict=True):
        own = people.model(torch.tensor([prompt.ids])).logits[0, -1]
        torch.testing.assert_close(row, own, atol=1e-9, rtol=1e-9)


def test_an_untrained_interaction_adds_nothing_where_peers_are_heard(
    frozen: dict[str, Member],
) -> None:
    """Its last matrices are zero: the primary reads empty slots, and that is all."""
    team = untrained("interaction", frozen)
    prompts = prompts_of(team, QUESTIONS)
    heard = team.steps(ROUTE, prompts).first()
    primary = frozen["guilds"]
    thoughts = [Reader(frozen[peer], prompts[peer]).think(12) for peer in ROUTE.peers]
    asked = ask(primary, prompts["guilds"], slots_used(primary, thoughts))
    alone = primary.model(
        asked.ids, attention_mask=asked.mask, position_ids=asked.positions, logits_to_keep=1
    ).logits[:, -1]
    torch.testing.assert_close(heard, alone, atol=1e-9, rtol=1e-9)


@pytest.mark.parametrize("form", FORMS)
def test_saying_token_by_token_is_reading_it_at_once(
    form: FormName, frozen: dict[str, Member]
) -> None:
    """The answer that comes of the cache is the likeliest at each of its places, computed anew
    without one."""
    team = noisy(form, frozen)
    said = say(team, ROUTE, QUESTIONS)
    tokenizer = team.members["guilds"].tokenizer
    # What it says is noise; it is put back as tokens, since text would be cut anew.
    examples = Examples(team.members, [Example(q, "x") for q in QUESTIONS], 12)
    examples.answers["guilds"] = [[*row, min(tokenizer.end_ids)] for row in said]
    asked = examples.asked(ROUTE.primary, ROUTE.peers, range(3), with_answers=True)
    thoughts = examples.whole_thoughts(ROUTE.primary, ROUTE.peers, range(3))
    primary = team.members["guilds"]
    with torch.no_grad():
        states, _ = team.form.begin(primary, asked, thoughts)
        likeliest = primary.model.lm_head(states).argmax(-1)
    n_before = len(examples.prompts["guilds"][0].after) - 1
    for row, tokens in zip(likeliest[:, n_before:].tolist(), said, strict=True):
        assert row[: len(tokens)] == tokens


@pytest.mark.parametrize("form", FORMS)
def test_a_row_does_not_depend_on_its_batch(form: FormName, frozen: dict[str, Member]) -> None:
    team = noisy(form, frozen)
    together = say(team, ROUTE, QUESTIONS)
    assert together == [say(team, ROUTE, [q])[0] for q in QUESTIONS]


@pytest.mark.parametrize("form", FORMS)
def test_rows_that_end_early_leave_the_others_as_they_are(
    form: FormName, frozen: dict[str, Member]
) -> None:
    """What goes on is a part of the batch: other places, other lengths, other texts said so far."""
    team, until = noisy(form, frozen), (2, 9, 5)
    together = say(team, ROUTE, QUESTIONS, until)
    assert together == [
        say(team, ROUTE, [q], [n])[0] for q, n in zip(QUESTIONS, until, strict=True)
    ]


@pytest.mark.parametrize("form", FORMS)
def test_gates_count_fully_and_are_felt_by_the_gradient(
    form: FormName, frozen: dict[str, Member]
) -> None:
    """An engine that knows of no gates computes what was trained; the router learns from it."""
    team = noisy(form, frozen)
    examples = Examples(team.members, [Example(q, "brass") for q in QUESTIONS], 12)
    gates = torch.tensor([[-2.0, -0.5]] * 3, dtype=torch.float64, requires_grad=True)

    def losses(gates: torch.Tensor | None) -> torch.Tensor:
        return token_losses(team, examples, ROUTE, [0, 1, 2], gates)[0]

    gated = losses(gates)
    [felt] = torch.autograd.grad(gated.sum(), gates)
    assert felt.abs().min() > 0
    torch.testing.assert_close(gated, losses(None), atol=1e-9, rtol=1e-9)


@pytest.mark.parametrize("form", FORMS)
def test_a_later_byte_of_the_answer_changes_no_earlier_logit(
    form: FormName, frozen: dict[str, Member]
) -> None:
    """Neither by the primary's own way nor by a peer that reads along."""
    team = noisy(form, frozen)

    def losses(answer: str) -> torch.Tensor:
        examples = Examples(team.members, [Example(QUESTIONS[0], answer)], 12)
        with torch.no_grad():
            return token_losses(team, examples, ROUTE, [0])[0]

    one, other = losses("br brass"), losses("br bridge")  # spelled: a token a letter
    same = 5  # b, r, a space, b, r
    torch.testing.assert_close(one[:same], other[:same], atol=1e-9, rtol=1e-9)
    assert not torch.allclose(one[same], other[same])


@pytest.mark.parametrize("letters", [("r", "s"), ("ï", "î")])
@pytest.mark.parametrize("speaker", ["guilds", "sums"])
def test_a_later_byte_of_the_question_changes_no_earlier_state(
    speaker: str, letters: tuple[str, str], frozen: dict[str, Member]
) -> None:
    """Of the primary's, by what its peers have read: the two questions differ in their last byte,
    which is half a letter at times, and so do the peers' thoughts, but nothing before that byte may
    know."""
    team = noisy("interaction", frozen)
    primary = frozen[speaker]
    route = Route(speaker, tuple(name for name in frozen if name != speaker))

    def states(text: str) -> torch.Tensor:
        examples = Examples(team.members, [Example(text, "x")], 12)
        asked = examples.asked(route.primary, route.peers, [0], with_answers=False)
        thoughts = examples.whole_thoughts(route.primary, route.peers, [0])
        everything = replace(asked, n_tail=asked.ids.shape[1])
        with torch.no_grad():
            return team.form.begin(primary, everything, thoughts)[0][0]

    texts = [f"The token of Bem Stadu{letter}" for letter in letters]
    one, other = map(states, texts)
    ids = [primary.prompt([Message(role="user", content=text)]).before for text in texts]
    n_same = len(ids[0]) - 1
    assert ids[0][:n_same] == ids[1][:n_same]
    torch.testing.assert_close(one[:n_same], other[:n_same], atol=1e-9, rtol=1e-9)
    assert not torch.allclose(one[n_same], other[n_same])


@pytest.mark.parametrize("form", FORMS)
def test_what_a_peer_thinks_is_heard(form: FormName, frozen: dict[str, Member]) -> None:
    team = noisy(form, frozen)
    prompts = prompts_of(team, QUESTIONS)
    other = {**prompts, "people": prompts_of(team, ["Who?"] * 3)["people"]}
    heard = team.steps(ROUTE, prompts).first()
    assert not torch.allclose(heard, team.steps(ROUTE, other).first(), atol=1e-3)
