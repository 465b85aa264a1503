"""Two embedders side by side: one space in which both have their say."""

from __future__ import annotations

import numpy as np
import pytest

from skills.embedders import HashingEmbedder, JointEmbedder, MiniLMEmbedder, make_embedder

TEXTS = ["What is the capital of France?", "Name the capital city of Spain.", "Add 3 and 4."]


def test_the_cosine_is_a_mix_of_both() -> None:
    first, second = MiniLMEmbedder(), HashingEmbedder(64)
    joint = JointEmbedder(first, second).embed(TEXTS)
    a, b = first.embed(TEXTS), second.embed(TEXTS)
    np.testing.assert_allclose(joint @ joint.T, 0.7 * a @ a.T + 0.3 * b @ b.T, atol=1e-5)


def test_rows_are_unit_vectors_in_single_precision() -> None:
    vectors = JointEmbedder(HashingEmbedder(32), HashingEmbedder(16)).embed(TEXTS)
    assert vectors.dtype == np.float32
    assert vectors.shape == (3, 48)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-6)


def test_the_spec_names_both() -> None:
    joint = make_embedder("minilm+hashing-64")
    assert joint.name == f"{MiniLMEmbedder().name}+hashing-64"
    assert joint.embed(TEXTS).shape == (3, 384 + 64)


def test_the_order_is_part_of_the_name() -> None:
    # The shares differ: what was fitted with one cannot be used with the other.
    names = {make_embedder(s).name for s in ("hashing-8+hashing-16", "hashing-16+hashing-8")}
    assert len(names) == 2


@pytest.mark.parametrize("spec", ["hashing-64", "hashing"])
def test_one_embedder_is_no_joint_one(spec: str) -> None:
    assert isinstance(make_embedder(spec), HashingEmbedder)


def test_no_texts_are_no_vectors() -> None:
    assert make_embedder("hashing-8+hashing-16").embed([]).shape == (0, 24)


def test_a_text_is_embedded_alike_alone_and_in_a_batch() -> None:
    joint = make_embedder("hashing-8+hashing-16")
    alone = np.concatenate([joint.embed([t]) for t in TEXTS])
    np.testing.assert_allclose(joint.embed(TEXTS), alone, atol=1e-6)
