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
        (
            '{"a": {"s": "x"},\n "b": {"s": "y"}}',
            "line 2: the skill 's' stands under",
        ),
        ('{"a": {"s": "x",\n\n "s": "y"}}', "line 3: the skill 's' stands under 'a' in line 1"),
        ('{"a": {"s": "x"},\n "a": {"t": "y"}}', "line 2: the category 'a' stands twice"),
        ('{"a": {\n"s": " "}}', "line 2: the skill 's' is without a description"),
        ('{"a": {\n"s": 3}}', "line 2: the skill 's' is without a description"),
        ('{"a": {"s": "Sums."},\n"b": {"t": "sums. "}}', "line 2: .* the same description as 's'"),
        ('{\n"a": ["s"]}', "line 2: the category 'a' holds no skills"),
        ('{\n"a": {}}', "line 2: the category 'a' holds no skills"),
        ('{"a":\n {" s": "x"}}', "line 2: ' s' is no name"),
        ('["a"]', "not a taxonomy: it has no categories"),
        ("{}", "has no skills"),
        ('{"a": {"s": "x"}\n,}', "line 2: not JSON"),
        ("[", "line 1: not JSON"),
        ("[" * 100_000, "too deep"),
    ],
)
def test_a_broken_taxonomy_is_refused_with_its_line(
    tmp_path: Path, text: str, complaint: str
) -> None:
    path = tmp_path / "taxonomy.json"
    path.write_text(text)
    with pytest.raises(ValueError, match=complaint) as error:
        Taxonomy.load(path)
    assert str(path) in str(error.value)


def test_a_file_that_is_no_text_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "taxonomy.json"
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ValueError, match="cannot be read"):
        Taxonomy.load(path)
    with pytest.raises(ValueError, match="cannot be read"):
        Taxonomy.load(tmp_path)


def test_mistyped_names_have_a_nearest_one() -> None:
    taxonomy = Taxonomy.load()
    assert taxonomy.nearest("additon") == "addition"
    assert taxonomy.nearest("arithmetics") == "arithmetic"
    assert taxonomy.nearest("zzz") is None
