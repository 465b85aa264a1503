"""The taxonomy file, and what is refused in one."""

from __future__ import annotations

from pathlib import Path

import pytest

from skills.taxonomy import Taxonomy


def test_the_shipped_taxonomy_has_two_levels() -> None:
    taxonomy = Taxonomy.load()
    assert len(taxonomy.categories) == 7
    assert len(taxonomy.skills) == 28
    assert taxonomy.category_of["capital"] == "countries"


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ('{"a": {"s": "x"}, "b": {"s": "y"}}', "under two categories: s"),
        ('{"a": {"s": " "}}', "without a description: s"),
        ('{"a": ["s"]}', "not a taxonomy"),
        ("[", "not a taxonomy"),
    ],
)
def test_a_broken_taxonomy_is_refused_with_a_reason(
    tmp_path: Path, text: str, complaint: str
) -> None:
    path = tmp_path / "taxonomy.json"
    path.write_text(text)
    with pytest.raises(ValueError, match=complaint):
        Taxonomy.load(path)
