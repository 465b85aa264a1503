"""Training a head: the members stay as they are, a stopped run goes on, a head knows its models."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from experts.errors import BadHead, ConclaveError, ConfigError, DataError
from experts.lab.composites.questions import training_questions
from experts.latent.card import FORMS, WEIGHTS_FILE, FormName, card_of, read_card
from experts.latent.expert import BUNDLED_HEAD
from experts.latent.net.member import Member
from experts.latent.net.team import Team
from experts.latent.plan import TrainingPlan
from experts.latent.training.examples import Example
from experts.latent.training.heads import Job, train_heads
from experts.latent.training.train import Progress, train
from tests.experts.latent.teams import FOLDERS, members, untrained

QUICK = TrainingPlan(
    teach_steps=12, teach_rows=16, route_questions=24, likely_questions=20, route_steps=6,
    joint_steps=6, joint_rows=4, checkpoint_every=4,
)  # fmt: skip
QUESTIONS = [Example(q.text, q.answer) for q in training_questions(60, seed=0)]


class Stopped(Exception):
    """A run that somebody ends."""


@pytest.fixture(scope="module")
def frozen() -> dict[str, Member]:
    return members()


def trained(
    plan: TrainingPlan, folder: Path, frozen: dict[str, Member], *, until: int | None = None
) -> dict[str, Any]:
    """until: the step of the last phase at which the run is stopped."""
    torch.manual_seed(plan.seed)

    def report(progress: Progress) -> None:
        if progress.phase == "joint" and progress.step == until:
            raise Stopped

    return train(untrained(plan.form, frozen), QUESTIONS, plan, folder, report=report)


def weights(folder: Path) -> Mapping[str, torch.Tensor]:
    found: Mapping[str, torch.Tensor] = load_file(folder / WEIGHTS_FILE)
    return found


@pytest.mark.parametrize("form", FORMS)
def test_a_head_is_trained_and_its_members_are_not(
    form: FormName, frozen: dict[str, Member], tmp_path: Path
) -> None:
    before = {name: m.checksum() for name, m in frozen.items()}
    fresh = untrained(form, frozen).head.state_dict()
    told = trained(replace(QUICK, form=form), tmp_path, frozen)
    assert {name: m.checksum() for name, m in frozen.items()} == before == told["member_checksums"]
    moved = [k for k, v in weights(tmp_path).items() if not torch.equal(v, fresh[k])]
    assert any(k.startswith("form.") for k in moved)
    assert any(k.startswith("router.") for k in moved)
    card = read_card(tmp_path)
    assert card.form == form
    assert card.names == ("people", "guilds", "sums")
    assert Team.load(tmp_path, FOLDERS).card == card


def test_a_training_that_changed_a_member_makes_no_head(tmp_path: Path) -> None:
    own = members()

    def spoil(progress: Progress) -> None:
        with torch.no_grad():
            own["sums"].model.lm_head.weight[0, 0] += 1e-3

    with pytest.raises(ConclaveError, match="sums was to stay frozen"):
        train(untrained(QUICK.form, own), QUESTIONS, QUICK, tmp_path, report=spoil)
    assert not (tmp_path / "head.json").exists()


def test_a_run_that_was_stopped_goes_on_to_the_same_head(
    frozen: dict[str, Member], tmp_path: Path
) -> None:
    trained(QUICK, tmp_path / "whole", frozen)
    plan = replace(QUICK, checkpoint_every=2)  # how often it is kept changes nothing
    with pytest.raises(Stopped):
        trained(plan, tmp_path / "stopped", frozen, until=6)
    assert not (tmp_path / "stopped" / WEIGHTS_FILE).exists()
    trained(plan, tmp_path / "stopped", frozen)
    whole, went_on = weights(tmp_path / "whole"), weights(tmp_path / "stopped")
    for name, tensor in whole.items():
        torch.testing.assert_close(went_on[name], tensor, atol=1e-6, rtol=1e-5)
    assert not list((tmp_path / "stopped").glob("checkpoint*"))


def test_a_checkpoint_of_another_plan_is_not_gone_on_from(
    frozen: dict[str, Member], tmp_path: Path
) -> None:
    with pytest.raises(Stopped):
        trained(QUICK, tmp_path, frozen, until=6)
    with pytest.raises(DataError, match="checkpoint of other questions"):
        train(untrained(QUICK.form, frozen), QUESTIONS[:-1], QUICK, tmp_path)
    with pytest.raises(DataError, match="checkpoint of another plan"):
        trained(replace(QUICK, seed=1), tmp_path, frozen)
    [checkpoint] = tmp_path.glob("checkpoint*")
    checkpoint.write_bytes(checkpoint.read_bytes()[:-9])
    with pytest.raises(DataError, match="cannot be gone on from"):
        trained(QUICK, tmp_path, frozen)


def test_a_head_is_kept_for_the_same_questions_alone(tmp_path: Path) -> None:
    """As many other questions make another head."""
    tiny = replace(QUICK, teach_steps=2, route_steps=2, joint_steps=2)

    def made(questions: list[Example]) -> bytes:
        job = Job(name="one", plan=tiny, questions=questions, folder=tmp_path)
        train_heads([job], FOLDERS)
        return (tmp_path / WEIGHTS_FILE).read_bytes()

    first = made(QUESTIONS[:30])
    written = (tmp_path / WEIGHTS_FILE).stat().st_mtime_ns
    assert made(QUESTIONS[:30]) == first
    assert (tmp_path / WEIGHTS_FILE).stat().st_mtime_ns == written
    assert made(QUESTIONS[30:]) != first
    (tmp_path / "head.json").unlink()  # killed before the card was written
    assert made(QUESTIONS[:30]) == first


@pytest.mark.parametrize(
    "wrong",
    [{"top_k": 0}, {"n_slots": 0}, {"checkpoint_every": 0}, {"joint_rows": 0}, {"teach_rows": 0},
     {"teach_steps": -5}, {"teach_rate": -1.0}, {"hopeless_share": 2.0}, {"sizes": {"bogus": 1}},
     {"sizes": {"wide": 0}}],
)  # fmt: skip
def test_a_plan_that_no_training_can_have_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=next(iter(wrong))):
        replace(QUICK, **wrong)


def test_a_plan_without_steps_says_so_in_json(frozen: dict[str, Member], tmp_path: Path) -> None:
    idle = replace(QUICK, teach_steps=0, route_steps=0, joint_steps=0)
    told = trained(idle, tmp_path, frozen)
    assert told["loss"] is None


@pytest.mark.parametrize(
    ("key", "value"),
    [("members", []), ("sizes", {"bogus": 1}), ("sizes", []), ("n_slots", True), ("top_k", 10**9)],
)
def test_a_card_of_no_head_is_refused(key: str, value: object, tmp_path: Path) -> None:
    told = json.loads((BUNDLED_HEAD / "head.json").read_text())
    (tmp_path / "head.json").write_text(json.dumps({**told, key: value}))
    with pytest.raises(BadHead):
        read_card(tmp_path)


def test_weights_that_a_sample_of_the_file_does_not_show_are_seen(
    frozen: dict[str, Member], tmp_path: Path
) -> None:
    """The card's fingerprint is made to agree: the checksum of what is loaded does not."""
    trained(QUICK, tmp_path / "head", frozen)
    shutil.copytree(FOLDERS["sums"], tmp_path / "sums")
    other = Member.load("sums", tmp_path / "sums").model
    with torch.no_grad():
        other.lm_head.weight[0] += 1
    other.save_pretrained(tmp_path / "sums")
    folders = {**FOLDERS, "sums": tmp_path / "sums"}
    told = json.loads((tmp_path / "head" / "head.json").read_text())
    card = card_of("soft_prefix", folders, n_slots=12, top_k=2)
    told["members"] = [asdict(member) for member in card.members]
    (tmp_path / "head" / "head.json").write_text(json.dumps(told))
    with pytest.raises(BadHead, match="other weights of 'sums', by their checksum"):
        Team.load(tmp_path / "head", folders)


def test_a_head_of_other_models_is_refused(frozen: dict[str, Member], tmp_path: Path) -> None:
    team = untrained("soft_prefix", frozen)
    team.save(tmp_path / "head", {})
    shutil.copytree(FOLDERS["sums"], tmp_path / "sums")
    retrained = Member.load("sums", tmp_path / "sums").model
    with torch.no_grad():
        retrained.lm_head.weight[0] += 1
    retrained.save_pretrained(tmp_path / "sums")
    with pytest.raises(BadHead, match="trained with another 'sums'"):
        Team.load(tmp_path / "head", {**FOLDERS, "sums": tmp_path / "sums"})
    with pytest.raises(BadHead, match="trained with 'sums', which is not among"):
        Team.load(tmp_path / "head", {k: v for k, v in FOLDERS.items() if k != "sums"})


@pytest.mark.parametrize(
    ("name", "old", "new"),
    [
        ("config.json", '"rope_theta": 10000.0', '"rope_theta": 100.0'),
        ("chat_template.jinja", "{%", "Q{%"),
    ],
)
def test_a_head_of_models_that_are_used_otherwise_is_refused(
    name: str, old: str, new: str, tmp_path: Path
) -> None:
    """The weights alone do not say what is read and how."""
    shutil.copytree(FOLDERS["sums"], tmp_path / "sums")
    path = tmp_path / "sums" / name
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new, 1))
    with pytest.raises(BadHead, match="another configuration or chat template of 'sums'"):
        read_card(BUNDLED_HEAD).check({**FOLDERS, "sums": tmp_path / "sums"})


def test_what_is_no_head_is_said_to_be_none(tmp_path: Path) -> None:
    with pytest.raises(BadHead, match=r"has no head\.json"):
        read_card(tmp_path)
    (tmp_path / "head.json").write_text("{")
    with pytest.raises(BadHead, match="not a head's card"):
        read_card(tmp_path)
    card = card_of("soft_prefix", FOLDERS, n_slots=12, top_k=2)
    card.save(tmp_path)
    told = json.loads((tmp_path / "head.json").read_text())
    (tmp_path / "head.json").write_text(json.dumps({**told, "form": "telepathy"}))
    with pytest.raises(BadHead, match="unknown form 'telepathy'"):
        read_card(tmp_path)
    (tmp_path / "head.json").write_text(json.dumps({**told, "n_slots": "twelve"}))
    with pytest.raises(BadHead, match="n_slots is 'twelve'"):
        read_card(tmp_path)
    card.save(tmp_path)
    (tmp_path / WEIGHTS_FILE).write_bytes(b"no tensors")
    with pytest.raises(BadHead, match=r"head\.safetensors is not whole"):
        Team.load(tmp_path, FOLDERS)
    with pytest.raises(BadHead, match="'sums' holds no model"):
        card.check({**FOLDERS, "sums": tmp_path / "nothing"})
