"""Annotators by name: what ``annotator:`` in conclave.yaml chooses from."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Literal, get_args

import numpy as np

from skills.annotate import DescriptorAnnotator, NeighbourAnnotator, RouterAnnotator
from skills.classifier import ClassifierAnnotator
from skills.errors import SkillsError

AnnotatorKind = Literal["neighbours", "descriptors", "classifier", "keywords"]
NEIGHBOURS, DESCRIPTORS, CLASSIFIER, KEYWORDS = get_args(AnnotatorKind)
_BY_KIND: Mapping[str, type[NeighbourAnnotator | DescriptorAnnotator | ClassifierAnnotator]] = {
    NEIGHBOURS: NeighbourAnnotator,
    DESCRIPTORS: DescriptorAnnotator,
    CLASSIFIER: ClassifierAnnotator,
}
"""Those of embeddings. Keywords come from an LLM, which no router asks: under ``keywords`` it looks
at neighbours, and the orchestrator asks (orchestrator/keywords.py)."""


def make_annotator(
    kind: str, descriptors: Mapping[str, np.ndarray] = MappingProxyType({})
) -> RouterAnnotator:
    """An annotator of embeddings, not fitted yet. descriptors: unit vectors by skill, which only
    that of ``descriptors`` needs.

    Raises SkillsError for an unknown kind.
    """
    if kind == DESCRIPTORS:
        if not descriptors:
            raise SkillsError("The annotator 'descriptors' needs the taxonomy's descriptors.")
        return DescriptorAnnotator(list(descriptors), np.array(list(descriptors.values())))
    return ClassifierAnnotator() if _named(kind) is ClassifierAnnotator else NeighbourAnnotator()


def annotator_from_state(kind: str, state: Mapping[str, np.ndarray]) -> RouterAnnotator:
    """Inverse of ``state``."""
    return _named(kind).from_state(state)


def _named(kind: str) -> type[NeighbourAnnotator | DescriptorAnnotator | ClassifierAnnotator]:
    if kind not in _BY_KIND:
        raise SkillsError(
            f"There is no annotator {kind!r} of embeddings. Known: {', '.join(_BY_KIND)}."
        )
    return _BY_KIND[kind]
