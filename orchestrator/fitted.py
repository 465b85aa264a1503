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
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np

from experts.errors import NotFitted
from experts.expert import Pool
from routers.category import CategoryRouter
from routers.composer import Composer
from routers.confidence import AnswerConfidence
from routers.outcomes import Features
from routers.plans import PlanOutlooks
from routers.scores import Scores
from routers.shortcut import Shortcut

_FORMAT = 2
_SHORTCUT = "shortcut."
_COMPOSER = "composer."


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
    embedder: str
    """Name of the embedder whose vectors the router was fitted on."""
    category_of: Mapping[str, str]
    versions: Mapping[str, str]
    """Version of each expert's weights, by name."""
    report: Mapping[str, Any]
    """What fitting saw and measured: numbers of outcomes, ledger position, calibration error."""

    def score(
        self,
        texts: Sequence[str],
        n_chars: np.ndarray,
        embed: Callable[[Sequence[str]], np.ndarray],
    ) -> Scores:
        """Beliefs about queries; only texts that the shortcut leaves open are embedded.

        n_chars: (n_queries,) length of the whole conversation.
        """
        if self.shortcut is None:
            return self.router.score(Features(embeddings=embed(texts), n_chars=n_chars))
        annotation, settled = self.shortcut.annotate(texts)
        is_general = np.zeros(len(texts), bool)
        if not settled.all():
            open_rows = np.flatnonzero(~settled)
            vectors = embed([texts[int(i)] for i in open_rows])
            encoded, is_general[open_rows] = self.router.annotate(vectors)
            annotation.p_skill[open_rows] = encoded.p_skill
            annotation.novelty[open_rows] = encoded.novelty
        return self.router.score_annotated(annotation, is_general, n_chars)

    def save(self, folder: Path) -> None:
        """Both files are written beside and moved into place: a crash leaves the old ones."""
        folder.mkdir(parents=True, exist_ok=True)
        arrays = self.router.state()
        if self.shortcut is not None:
            arrays |= {f"{_SHORTCUT}{k}": v for k, v in self.shortcut.state().items()}
        if self.composer is not None:
            arrays |= {f"{_COMPOSER}{k}": v for k, v in self.composer.state().items()}
        beside = folder / "router.npz.new"
        with beside.open("wb") as file:
            np.savez_compressed(file, allow_pickle=False, **arrays)
        digest = hashlib.blake2b(beside.read_bytes(), digest_size=8).hexdigest()
        about = {
            "format": _FORMAT,
            "router": digest,
            "versions": self.versions,
            "embedder": self.embedder,
            "report": self.report,
            "category_of": self.category_of,
            "confidence": self.confidence.state(),
            "outlooks": self.outlooks.state(),
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
        prices = {arm: card.prices for card in pool.cards for arm in card.arms}
        quick = _part(state, _SHORTCUT)
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
        changed = [n for n, v in pool.versions.items() if about["versions"].get(n) != v]
        if changed:
            raise NotFitted(
                f"{folder} was fitted for other weights of {', '.join(changed)}. Record these and "
                "fit again: conclave record QUESTIONS.jsonl && conclave fit"
            )
        return cls(
            router=router,
            shortcut=Shortcut.from_state(quick) if quick else None,
            confidence=AnswerConfidence.from_state(about["confidence"]),
            outlooks=PlanOutlooks.from_state(about["outlooks"]),
            composer=(
                Composer.from_state(_part(state, _COMPOSER), about["composer"])
                if about.get("composer")
                else None
            ),
            embedder=about["embedder"],
            category_of=about["category_of"],
            versions=about["versions"],
            report=about["report"],
        )


def _part(state: Mapping[str, np.ndarray], prefix: str) -> dict[str, np.ndarray]:
    return {k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)}
