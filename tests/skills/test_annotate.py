"""Annotators: which skill, and how strange."""

from __future__ import annotations

import numpy as np
import pytest

from skills.annotate import DescriptorAnnotator, NeighbourAnnotator

SKILLS = ("north", "east")
NORTH, EAST, NORTH_EAST, SOUTH = np.eye(2)[0], np.eye(2)[1], np.ones(2) / np.sqrt(2), -np.eye(2)[0]


def fitted(k: int = 3) -> NeighbourAnnotator:
    known = np.array([NORTH, NORTH, NORTH, EAST, EAST, EAST])
    return NeighbourAnnotator(k=k).fit(known, ["north"] * 3 + ["east"] * 3, SKILLS)


def test_neighbours_vote() -> None:
    annotation = fitted().annotate(np.array([NORTH, EAST]))
    assert annotation.p_skill.argmax(1).tolist() == [0, 1]
    np.testing.assert_allclose(annotation.p_skill.sum(1), 1)
    np.testing.assert_allclose(fitted(k=6).annotate(NORTH_EAST[None]).p_skill, 0.5)


def test_what_is_far_from_everything_is_novel() -> None:
    known, strange = fitted().annotate(np.array([NORTH, SOUTH])).novelty
    assert known < 0.5 < strange


def test_left_out_questions_are_not_looked_at() -> None:
    blind = fitted().annotate(NORTH[None], leave_out=[np.array([0, 1, 2])])
    assert blind.p_skill[0].argmax() == 1


def test_state_survives_a_round_trip() -> None:
    again = NeighbourAnnotator.from_state(fitted().state())
    questions = np.array([NORTH, NORTH_EAST])
    np.testing.assert_allclose(
        again.annotate(questions).p_skill, fitted().annotate(questions).p_skill, atol=1e-3
    )


def test_descriptors_need_no_data() -> None:
    annotator = DescriptorAnnotator(SKILLS, np.array([NORTH, EAST]))
    assert annotator.annotate(np.array([EAST])).p_skill[0].argmax() == 1


def test_nothing_to_learn_from_is_an_error() -> None:
    with pytest.raises(ValueError, match="no labelled questions"):
        NeighbourAnnotator().fit(np.zeros((0, 2)), [], SKILLS)
