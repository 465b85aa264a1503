"""A latent expert in a pool: it answers what none of its members can, and its bill has them all."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from experts.cards import Prices
from experts.errors import BadHead, ConfigError
from experts.lab.composites.questions import LatentQuestion, draw_questions
from experts.latent.brain import LatentBrain
from experts.latent.card import FORMS, FormName
from experts.latent.expert import (
    BUNDLED_HEAD,
    bundled_latent_expert,
    latent_expert,
    latent_expert_on_engines,
)
from experts.latent.net.router import Route
from experts.latent.wire import EngineUrls
from experts.local.expert import InProcessExpert
from experts.values import Arm, Call, Completion, Delta, Message, Sampling
from orchestrator.config import load_config
from orchestrator.pool import make_experts
from tests.experts.latent.teams import FOLDERS, members, noisy

PRICES = {name: Prices(input_usd_per_mtok=1.0, output_usd_per_mtok=4.0) for name in FOLDERS}


@pytest.fixture(scope="module")
def together() -> Iterator[InProcessExpert]:
    with ThreadPoolExecutor(1) as worker:
        yield bundled_latent_expert("together", worker=worker, load_usd_per_s=1.0)


def ask(text: str, **sampling: object) -> Call:
    return Call(
        query_id="q",
        arm=Arm("together"),
        messages=(Message(role="user", content=text),),
        sampling=Sampling(**sampling),  # type: ignore[arg-type]
    )


def completed(expert: InProcessExpert, calls: Sequence[Call]) -> list[Completion]:
    return asyncio.run(expert.complete(calls))


def share_right(expert: InProcessExpert, questions: Sequence[LatentQuestion]) -> float:
    said = completed(expert, [ask(q.text) for q in questions])
    return sum(c.text == q.answer for c, q in zip(said, questions, strict=True)) / len(questions)


def test_it_answers_about_entities_that_no_composite_showed(together: InProcessExpert) -> None:
    assert share_right(together, draw_questions("entities", "val", 100, seed=3)) > 0.9


def test_it_answers_what_its_members_can_alone(together: InProcessExpert) -> None:
    assert share_right(together, draw_questions("single", "val", 100, seed=3)) > 0.9


def test_the_bill_has_every_member_that_read(together: InProcessExpert) -> None:
    alone, both = completed(
        together, [ask("What is the token of Jatrir?"), ask("The token of Bem Stadur's guild?")]
    )
    assert alone.ok
    assert both.ok
    assert both.usage.input_tokens > 2 * alone.usage.input_tokens
    assert 0 < both.cost_usd <= together.card.most_usd(both.call)


@pytest.mark.parametrize("form", FORMS)
def test_each_member_is_paid_for_what_it_reads_and_says(form: FormName, tmp_path: Path) -> None:
    """Prices so different that each member's share is seen in the sum."""
    prices = {
        name: Prices(input_usd_per_mtok=10.0**k, output_usd_per_mtok=10.0 ** (k + 2))
        for name, k in zip(FOLDERS, (0, 5, 10), strict=True)
    }
    team = noisy(form)
    with torch.no_grad():  # whoever asks, guilds speaks, and both others are heard
        team.head.router.speak_bias[1] = team.head.router.ask_bias[:] = 1.0
    team.save(tmp_path, {})
    brain = LatentBrain(tmp_path, FOLDERS, prices)
    brain.load()
    call = ask("What is the token of the guild of Bem Stadur?")
    put = brain.put(call)
    assert put.prompt.route == Route("guilds", ("people", "sums"))
    [said] = team.members["guilds"].tokenizer.ids_of_all(["brass bell"])
    n_read = {name: len(m.prompt(call.messages).ids) for name, m in team.members.items()}
    n_read["guilds"] += 2 * 12  # the slots of two peers
    for peer in ("people", "sums"):
        n_read[peer] += 11  # the places of its answer behind the one at which it would speak
        n_read[peer] += len(brain.team.members[peer].tokenizer.tokens_of("brass bell")[0]) * (
            form == "interaction"
        )
    assert put.n_read == sum(n_read.values()) - sum(
        team.read_along(put.prompt.route, said).values()
    )
    read_usd = sum(n * prices[name].input_usd_per_mtok for name, n in n_read.items()) / 1e6
    said_usd = len(said) * prices["guilds"].output_usd_per_mtok / 1e6
    assert put.cost_usd(said) == pytest.approx(read_usd + said_usd, rel=1e-12)


@pytest.mark.parametrize("form", ["soft_prefix", "interaction"])
def test_no_call_costs_more_than_its_bound(form: FormName, tmp_path: Path) -> None:
    """Peers read along what noise says, a token a byte, and stop where they are full."""
    prices = {name: Prices(input_usd_per_mtok=1.0, output_usd_per_mtok=1.0) for name in FOLDERS}
    team = noisy(form, members())
    with torch.no_grad():
        team.head.router.speak_bias[2] = team.head.router.ask_bias[:] = 1.0
    team.save(tmp_path, {})
    with ThreadPoolExecutor(1) as worker:
        expert = latent_expert("together", tmp_path, FOLDERS, prices, worker=worker)
        calls = [ask(text, max_tokens=220) for text in ("Who?", "What is 3 and 4?")]
        for said in completed(expert, calls):
            assert said.ok
            assert said.cost_usd <= expert.card.most_usd(said.call)


def test_a_peer_that_speaks_its_thoughts_is_paid_for_speaking(tmp_path: Path) -> None:
    price = Prices(input_usd_per_mtok=1.0, output_usd_per_mtok=100.0)
    team = noisy("soft_prefix", members())
    with torch.no_grad():
        team.head.router.speak_bias[1] = team.head.router.ask_bias[:] = 1.0
    team.save(tmp_path, {})
    brain = LatentBrain(tmp_path, FOLDERS, dict.fromkeys(FOLDERS, price))
    brain.load()
    call = ask("Who?")
    at_once = brain.put(call).cost_usd([])
    brain.team.members["people"] = replace(brain.team.members["people"], blank_id=None)
    assert brain.put(call).cost_usd([]) - at_once == pytest.approx(11 * 99e-6)


def test_each_call_of_a_batch_is_sampled_as_it_asks(together: InProcessExpert) -> None:
    """Of several routes, so that rows stand elsewhere in their batch than among the calls."""
    calls = [
        ask("What is the token of Jatrir?", max_tokens=12),
        ask("The token of Bem Stadur's guild?", max_tokens=2),
        ask("Spell planet backwards.", max_tokens=3),
        ask("What is the token of the guild of Bem Stadur?", max_tokens=9, temperature=1.9, seed=5),
        ask("Spell planet backwards.", max_tokens=12, temperature=1.9, seed=1),
    ]
    by_itself = [completed(together, [call])[0] for call in calls]
    for alone, said in zip(by_itself, completed(together, calls), strict=True):
        assert (said.text, said.usage, said.finish_reason) == (
            alone.text, alone.usage, alone.finish_reason,
        )  # fmt: skip
    assert len({c.text for c in by_itself}) >= 4  # mixing them up would be seen


def test_a_stream_says_the_same(together: InProcessExpert) -> None:
    async def streamed() -> list[Delta | Completion]:
        return [piece async for piece in together.stream(ask("Bem Stadur's guild has what token?"))]

    *deltas, last = asyncio.run(streamed())
    assert isinstance(last, Completion)
    assert "".join(d.text for d in deltas if isinstance(d, Delta)) == last.text


def test_what_it_cannot_read_fails_and_says_so(together: InProcessExpert) -> None:
    long, assistant = completed(
        together,
        [
            ask("word " * 300),
            Call(
                query_id="q",
                arm=Arm("together"),
                messages=(Message(role="assistant", content="Hello."),),
                sampling=Sampling(),
            ),
        ],
    )
    assert long.error_code == "context_too_long"
    assert "ends with a user's message" in str(assistant.error)


def test_a_mark_in_a_message_is_not_one(together: InProcessExpert) -> None:
    """Somebody who types a blank fills no slot."""
    plain, marked = completed(
        together, [ask("The token of Jatrir?"), ask("The token of Jatrir<|blank|><|end|>?")]
    )
    assert marked.ok
    assert marked.usage.input_tokens <= plain.usage.input_tokens + 2


def test_it_is_in_a_pool_by_configuration(tmp_path: Path) -> None:
    path = tmp_path / "conclave.yaml"
    path.write_text("experts:\n  - {kind: latent, name: together}\n")
    [card] = [e.card for e in make_experts(load_config(path)).values()]
    assert (card.name, card.kind) == ("together", "latent")
    members = {
        name: {
            "folder": str(folder),
            "prices": {"input_usd_per_mtok": 1, "output_usd_per_mtok": 4},
        }
        for name, folder in FOLDERS.items()
    }
    named = {"kind": "latent", "name": "same", "head": str(BUNDLED_HEAD), "members": members}
    path.write_text(json.dumps({"experts": [named]}))
    [same] = [e.card for e in make_experts(load_config(path)).values()]
    assert same.version == card.version
    assert same.prices.input_usd_per_mtok == pytest.approx(3.0)


@pytest.mark.parametrize(
    ("entry", "said"),
    [
        ({"head": "head"}, "a head needs its `members`"),
        ({"members": {"a": {"folder": "a", "prices": None}}}, "members"),
        ({"engines": {"a": {"model": "a", "pooling": "http://a"}}}, "`prices` go together"),
        ({"engines": {"a": {"model": "a"}}}, "give `pooling`, `completions`, or both"),
        ({"modes": ["direct", "reason"]}, "`modes` need a `head`"),
        ({"device": "tpu"}, "device"),
        ({"head": "x", "members": {}}, "a head needs its `members`"),
    ],
)
def test_a_configuration_that_lacks_something_is_refused(
    tmp_path: Path, entry: dict[str, object], said: str
) -> None:
    path = tmp_path / "conclave.yaml"
    path.write_text(json.dumps({"experts": [{"kind": "latent", "name": "x", **entry}]}))
    with pytest.raises(ConfigError, match=said):
        load_config(path)


def test_members_that_the_head_does_not_fit_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "conclave.yaml"
    prices = {"input_usd_per_mtok": 1, "output_usd_per_mtok": 4}
    swapped = {"people": "guilds", "guilds": "people", "sums": "sums"}
    members = {n: {"folder": str(FOLDERS[f]), "prices": prices} for n, f in swapped.items()}
    entry = {"kind": "latent", "name": "x", "head": str(BUNDLED_HEAD), "members": members}
    path.write_text(json.dumps({"experts": [entry]}))
    with pytest.raises(ConfigError, match="trained with another 'people'"):
        make_experts(load_config(path))


def test_engines_that_are_not_there_are_named() -> None:
    prices = Prices(input_usd_per_mtok=1.0, output_usd_per_mtok=4.0)
    expert = latent_expert_on_engines(
        "together", None, {}, {"people": EngineUrls(model="people")}, prices
    )
    [completion] = asyncio.run(expert.complete([ask("What is the token of Jatrir?")]))
    assert "no engine runs guilds" in str(completion.error)
    assert completion.cost_usd == 0


def test_an_engine_for_nobody_is_refused() -> None:
    prices = Prices(input_usd_per_mtok=1.0, output_usd_per_mtok=4.0)
    with pytest.raises(BadHead, match="'nobody' is not a member of the head"):
        latent_expert_on_engines("together", None, {}, {"nobody": EngineUrls(model="x")}, prices)


def test_a_brain_is_made_without_reading_weights() -> None:
    LatentBrain(BUNDLED_HEAD, FOLDERS, PRICES)
    with pytest.raises(BadHead):
        LatentBrain(FOLDERS["sums"], FOLDERS, PRICES).prepare()
