"""Fitted state: everything that was learned about a pool, in one folder of npz and JSON.

``router.npz`` holds the router's arrays; ``fitted.json`` the answer confidence, the plans'
outlooks, and where all of it came from.
"""

from __future__ import annotations

import hashlib
import io
import json
import zipfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

import numpy as np

from experts.errors import NotFitted
from experts.expert import Pool
from experts.values import Arm
from routers.category import CategoryRouter
from routers.competency import Competency
from routers.composer import Composer
from routers.confidence import AnswerConfidence
from routers.online import Shifts
from routers.plans import PlanOutlooks
from routers.scores import Scores
from routers.shortcut import Shortcut
from skills.annotate import Annotation
from skills.annotators import AnnotatorKind

_FORMAT = 5
_OUTLOOKS = "outlooks."
_SHORTCUT = "shortcut."
_COMPOSER = "composer."
_USE = "use."


@dataclass(frozen=True, kw_only=True, slots=True)
class Fitted:
    """A router with its companions, for one pool and one embedder."""

    router: CategoryRouter
    confidence: AnswerConfidence
    outlooks: PlanOutlooks
    shortcut: Shortcut | None = None
    """Spares clear questions the encoder; None where it did not prove itself."""
    composer: Composer | None = None
    """Weighs answers and plans waves; None where there was nothing to learn of that."""
    annotator: AnnotatorKind = "neighbours"
    """Who annotates questions, and labelled those that came without a skill."""
    aggregator: Arm | None = None
    """Who puts answers together best (``conclave fit aggregator``); None where nobody measured."""
    embedder: str
    """Name of the embedder whose vectors the router was fitted on."""
    category_of: Mapping[str, str]
    versions: Mapping[str, str]
    """Version of each expert's weights, by name."""
    report: Mapping[str, Any]
    """What fitting saw and measured: numbers of outcomes, ledger position, calibration error."""
    shifts: Shifts | None = None
    """What outcomes of use, up to that position, add to what was fitted on recorded ones."""

    @property
    def state_id(self) -> str:
        """Which beliefs these are: the same after saving and loading, and with another aggregator;
        others after another fit. What decisions believed is known by it."""
        seen = {k: v for k, v in self.report.items() if k != "aggregator"}
        about = json.dumps([seen, dict(self.versions)], sort_keys=True, default=float)
        digest = hashlib.blake2b(about.encode(), digest_size=8)
        profiles = self.router.profiles_
        for array in (profiles.successes, profiles.trials):
            digest.update(np.ascontiguousarray(array).tobytes())
        if self.shifts is not None:
            digest.update(np.ascontiguousarray(self.shifts.logits).tobytes())
        return digest.hexdigest()

    @property
    def competency(self) -> Competency:
        """Right minus wrong answers per arm and skill."""
        profiles = self.router.profiles_
        return Competency(
            arms=self.router.arms_,
            skills=profiles.skills,
            margin=2 * profiles.successes - profiles.trials,
        )

    def score(
        self,
        texts: Sequence[str],
        n_chars: np.ndarray,
        embed: Callable[[Sequence[str]], np.ndarray],
    ) -> Scores:
        """Beliefs about queries; only texts that the shortcut leaves open are embedded.

        n_chars: (n_queries,) length of the whole conversation.
        """
        annotation, is_general = self.annotate(texts, embed)
        scores = self.router.score_annotated(annotation, is_general, n_chars)
        if self.shifts is None:
            return scores
        moved = self.shifts.apply(scores)
        return replace(moved, fitted_shift=moved.shift)

    def annotate(
        self, texts: Sequence[str], embed: Callable[[Sequence[str]], np.ndarray]
    ) -> tuple[Annotation, np.ndarray]:
        """Which skills, and (n_texts,) whether a question is a general one; over the router's
        skills. Embeds as ``score``."""
        if self.shortcut is None:
            return self.router.annotate(embed(texts))
        annotation, settled = self.shortcut.annotate(texts)
        is_general = np.zeros(len(texts), bool)
        if not settled.all():
            open_rows = np.flatnonzero(~settled)
            vectors = embed([texts[int(i)] for i in open_rows])
            encoded, is_general[open_rows] = self.router.annotate(vectors)
            annotation.p_skill[open_rows] = encoded.p_skill
            annotation.novelty[open_rows] = encoded.novelty
        return annotation, is_general

    def save(self, folder: Path) -> None:
        """Both files are written beside and moved into place: a crash leaves the old ones."""
        folder.mkdir(parents=True, exist_ok=True)
        arrays = self.router.state()
        arrays |= {f"{_OUTLOOKS}{k}": v for k, v in self.outlooks.state().items()}
        if self.shortcut is not None:
            arrays |= {f"{_SHORTCUT}{k}": v for k, v in self.shortcut.state().items()}
        if self.composer is not None:
            arrays |= {f"{_COMPOSER}{k}": v for k, v in self.composer.state().items()}
        if self.shifts is not None:
            names = ("logits", "n", "prior_n")
            arrays |= {f"{_USE}{name}": getattr(self.shifts, name) for name in names}
        beside = folder / "router.npz.new"
        with beside.open("wb") as file:
            np.savez_compressed(file, allow_pickle=False, **arrays)
        digest = hashlib.blake2b(beside.read_bytes(), digest_size=8).hexdigest()
        about = {
            "format": _FORMAT,
            "router": digest,
            "versions": self.versions,
            "embedder": self.embedder,
            "annotator": self.annotator,
            "report": self.report,
            "aggregator": None if self.aggregator is None else str(self.aggregator),
            "category_of": self.category_of,
            "confidence": self.confidence.state(),
            "outlooks": self.outlooks.about(),
            "composer": None if self.composer is None else self.composer.about(),
        }
        text = json.dumps(about, indent=1, ensure_ascii=False)
        about_beside = folder / "fitted.json.new"
        about_beside.write_text(f"{text}\n", encoding="utf-8")
        beside.replace(folder / "router.npz")
        about_beside.replace(folder / "fitted.json")

    @classmethod
    def load(cls, folder: Path, pool: Pool, embedder: str) -> Self:
        """Raises NotFitted when there is nothing, it is damaged, or it was fitted for another pool,
        other weights or another embedder."""
        try:
            about = json.loads((folder / "fitted.json").read_text(encoding="utf-8"))
            data = (folder / "router.npz").read_bytes()
            if about.get("format") != _FORMAT:
                raise ValueError("it is of another version of Conclave")
            if hashlib.blake2b(data, digest_size=8).hexdigest() != about["router"]:
                raise ValueError("its two files do not belong together")
            with np.load(io.BytesIO(data), allow_pickle=False) as arrays:
                state = dict(arrays)
        except FileNotFoundError:
            raise NotFitted(
                f"Nothing is fitted in {folder}. Record outcomes of your experts and fit: "
                "conclave record QUESTIONS.jsonl && conclave fit"
            ) from None
        except (ValueError, OSError, KeyError, zipfile.BadZipFile) as error:
            raise NotFitted(f"{folder} cannot be read: {error}. Remake it: conclave fit") from None
        if about["embedder"] != embedder:
            raise NotFitted(
                f"{folder} was fitted with the embedder {about['embedder']!r}, not {embedder!r}. "
                "Change `embedder:` back, or fit again: conclave fit"
            )
        # People are in a pool to be asked by name; who fitted some with them gets them scored, too.
        pool = Pool(
            tuple(c for c in pool.cards if c.kind != "human" or c.name in about["versions"])
        )
        prices = {arm: card.prices for card in pool.cards for arm in card.arms}
        quick, use = _part(state, _SHORTCUT), _part(state, _USE)
        router = CategoryRouter(about["category_of"], prices).load_state(state)
        if set(router.arms_) != set(pool.arms):
            missing = sorted(map(str, set(pool.arms) - set(router.arms_)))
            gone = sorted(map(str, set(router.arms_) - set(pool.arms)))
            raise NotFitted(
                f"{folder} was fitted for another pool"
                + (f"; it does not know {', '.join(missing)}" if missing else "")
                + (f"; it knows {', '.join(gone)}, which you do not have" if gone else "")
                + ". Record the missing outcomes and run: conclave fit"
            )
        scored, was = [card for card in pool.cards if card.arms], about["versions"]
        changed = [card.name for card in scored if was.get(card.name) != card.version]
        if changed:
            raise NotFitted(
                f"{folder} was fitted for other weights of {', '.join(changed)}. Record these and "
                "fit again: conclave record QUESTIONS.jsonl && conclave fit"
            )
        return cls(
            router=router,
            shortcut=Shortcut.from_state(quick) if quick else None,
            confidence=AnswerConfidence.from_state(about["confidence"]),
            outlooks=PlanOutlooks.from_state(_part(state, _OUTLOOKS), about["outlooks"]),
            composer=(
                Composer.from_state(_part(state, _COMPOSER), about["composer"])
                if about["composer"]
                else None
            ),
            annotator=about["annotator"],
            aggregator=Arm.parse(about["aggregator"]) if about["aggregator"] else None,
            embedder=about["embedder"],
            category_of=about["category_of"],
            versions=about["versions"],
            report=about["report"],
            shifts=Shifts(**use) if use else None,
        )


def _part(state: Mapping[str, np.ndarray], prefix: str) -> dict[str, np.ndarray]:
    return {k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)}
