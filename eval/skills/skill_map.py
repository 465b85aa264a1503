"""The map of who is good at what: profiles as rows and columns, before anybody draws them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal, Self, get_args

import numpy as np

from experts.errors import UnknownExpert, UnknownName
from skills.profiles import SkillProfiles

By = Literal["category", "skill"]
Sort = Literal["taxonomy", "name", "best", "doubt", "n"]
SORTS: tuple[str, ...] = get_args(Sort)
NOBODY_ASKED = 0.5
"""Observations below which a cell is what is believed of neighbours, not of itself."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SkillMap:
    """Chances to be right; arrays are (n_rows, n_experts)."""

    by: By
    rows: tuple[str, ...]
    """Skills or categories."""
    category_of_row: tuple[str, ...]
    experts: tuple[str, ...]
    """Arms: experts in their modes."""
    mean: np.ndarray
    low: np.ndarray
    """Of the 95 % credible interval."""
    high: np.ndarray
    n: np.ndarray
    """Observations; fractions where a question may need several skills."""

    @classmethod
    def of(
        cls,
        profiles: SkillProfiles,
        *,
        by: By = "category",
        category: str | None = None,
        expert: str | None = None,
        sort: Sort = "taxonomy",
    ) -> Self:
        """category: only this one, by its skills; expert: only this one's columns.

        Raises UnknownName or UnknownExpert, with the nearest names.
        """
        if category is not None and category not in profiles.categories:
            raise UnknownName(category, tuple(dict.fromkeys(profiles.categories)), what="category")
        if category is not None or by == "skill":
            by, rows, categories = "skill", profiles.skills, profiles.categories
            mean, sd = profiles.posterior()
            n = profiles.n
        else:
            rows, mean, sd, n = profiles.by_category()
            categories = rows
        low, high = profiles.interval(mean, sd)
        whole = cls(
            by=by, rows=rows, category_of_row=categories, experts=profiles.arms,
            mean=mean.T, low=low.T, high=high.T, n=n.T,
        )  # fmt: skip
        if category is not None:
            whole = whole._kept(rows=[i for i, c in enumerate(categories) if c == category])
        if expert is not None:
            columns = [
                j for j, arm in enumerate(profiles.arms) if expert in (arm, arm.partition(":")[0])
            ]
            if not columns:
                raise UnknownExpert(expert, profiles.arms)
            whole = whole._kept(columns=columns)
        return whole._sorted(sort)

    @property
    def best(self) -> np.ndarray:
        """(n_rows,) column of the likeliest to be right."""
        result: np.ndarray = self.mean.argmax(axis=1)
        return result

    def tied(self, row: int) -> list[str]:
        """Experts whose interval overlaps with that of the best: they may be as good."""
        best = int(self.best[row])
        return [
            name
            for j, name in enumerate(self.experts)
            if j != best and self.high[row, j] >= self.low[row, best]
        ]

    def _sorted(self, sort: Sort) -> Self:
        top = self.mean.max(axis=1)
        widths = (self.high - self.low)[np.arange(len(self.rows)), self.best]
        keys: dict[str, Sequence[float] | np.ndarray] = {
            "taxonomy": range(len(self.rows)),
            "name": np.argsort(np.argsort(np.array(self.rows))),
            "best": -top,
            "doubt": -widths,
            "n": self.n.sum(axis=1),
        }
        return self._kept(rows=[int(i) for i in np.argsort(keys[sort], kind="stable")])

    def _kept(
        self, *, rows: Sequence[int] | None = None, columns: Sequence[int] | None = None
    ) -> Self:
        rows = range(len(self.rows)) if rows is None else rows
        columns = range(len(self.experts)) if columns is None else columns
        cells = np.ix_(list(rows), list(columns))
        return replace(
            self,
            rows=tuple(self.rows[i] for i in rows),
            category_of_row=tuple(self.category_of_row[i] for i in rows),
            experts=tuple(self.experts[j] for j in columns),
            mean=self.mean[cells],
            low=self.low[cells],
            high=self.high[cells],
            n=self.n[cells],
        )

    def told(self) -> dict[str, object]:
        """JSON-ready."""
        return {
            "by": self.by,
            "experts": list(self.experts),
            "rows": [
                {
                    "name": row,
                    "category": self.category_of_row[i],
                    "best": self.experts[int(self.best[i])],
                    "as_good": self.tied(i),
                    "cells": [
                        {
                            "expert": name,
                            "mean": round(float(self.mean[i, j]), 4),
                            "ci": [round(float(v[i, j]), 4) for v in (self.low, self.high)],
                            "n": round(float(self.n[i, j]), 2),
                        }
                        for j, name in enumerate(self.experts)
                    ],
                }
                for i, row in enumerate(self.rows)
            ],
        }
