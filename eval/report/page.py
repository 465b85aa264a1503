"""The report as one HTML file: no network, no assets, readable without script, on any screen.

The page's own style and script are inlined and allowed by their hashes; everything else is
forbidden by its Content-Security-Policy, so that nothing in it can load, send or run anything.
"""

from __future__ import annotations

import base64
import hashlib
from importlib.resources import files

from eval.report import model_sections, sections, words
from eval.report.figures import ReportFigures
from eval.report.made import Made, how_made
from eval.report.markup import element, raw

_CONTENTS = {
    "answers": "Answers",
    "frontier": "Cost and accuracy",
    "policies": "Policies",
    "objective": "Price of failure",
    "tasks": "Tasks",
    "experts": "Models",
    "belief": "Confidence",
    "made": "How it was made",
}
"""Of the sections, by their ids."""


def page(f: ReportFigures, made: Made) -> str:
    """The whole file."""
    style, script = _asset("page.css"), _asset("page.js")
    policy = (
        f"default-src 'none'; style-src '{_hash(style)}'; script-src '{_hash(script)}'; "
        "base-uri 'none'; form-action 'none'"
    )
    title = f"Routing on {made.data}"
    head = element(
        "head",
        element("meta", charset="utf-8"),
        element("meta", http_equiv="Content-Security-Policy", content=policy),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("meta", name="color-scheme", content="light dark"),
        element("meta", name="referrer", content="no-referrer"),
        element("title", title),
        element("style", raw(style)),
    )
    parts = [
        sections.answers(f),
        sections.frontier(f),
        sections.policies(f),
        sections.objective(f),
        sections.tasks(f),
        model_sections.experts(f),
        *([model_sections.believed(f.believed)] if f.believed else []),
        how_made(f, made),
    ]
    contents = element(
        "nav",
        *(element("a", text, href=f"#{name}") for name, text in _CONTENTS.items()
          if name != "belief" or f.believed),
        aria_label="Sections",
    )  # fmt: skip
    header = element(
        "header",
        element("p", f"Conclave · {title}", class_="kicker"),
        element("h1", words.title(f)),
        element(
            "p",
            f"{len(f.models)} models, {made.n_dev:,} queries to choose on, {made.n_test:,} to "
            "judge on. Everything below is judged on queries that nothing was chosen on.",
            class_="lead",
        ),
        contents,
    )
    body = element(
        "body",
        element("a", "Skip to the answers", href="#answers", class_="skip"),
        header,
        element("main", *parts),
        element("div", id="tip", role="status", aria_live="polite", hidden="hidden"),
        element("script", raw(script)),
    )
    return f"<!doctype html>\n{element('html', head, body, lang='en')}\n"


def _asset(name: str) -> str:
    return (files("eval.report") / name).read_text(encoding="utf-8")


def _hash(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
