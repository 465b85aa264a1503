"""The map of who is good at what, its pictures, the taxonomy command, and annotators compared."""

from __future__ import annotations

import asyncio
import json
import re
from io import StringIO
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
import typer
from rich.console import Console
from typer.testing import CliRunner, Result

from eval.commands import annotators, skills
from eval.recording.record import record_outcomes
from eval.skills.comparison import compare_annotators
from eval.skills.figures import Comparison
from eval.skills.heat_map import colour_of, heat_map
from eval.skills.skill_map import SkillMap
from experts.cards import ExpertCard
from experts.errors import DataError, UnknownExpert, UnknownName
from experts.expert import Pool
from experts.fake import FakeExpert
from experts.values import Arm, Call, Completion, Sampling
from orchestrator.config import Config, KeywordSettings
from orchestrator.keywords import ask_for_keywords, keyword_annotator
from orchestrator.ledger import Label, Ledger, Verdict
from orchestrator.pool import make_experts
from skills.embedders import HashingEmbedder
from skills.profiles import SkillProfiles
from skills.taxonomy import Taxonomy
from tests import pools
from tests.eval.commands import told
from tests.shown import shown
from tests.typed import typed as in_process

SKILLS = ("sums", "products", "capitals")
CATEGORY_OF = {"sums": "arithmetic", "products": "arithmetic", "capitals": "countries"}


def profiles() -> SkillProfiles:
    """ada counts, bob knows cities and was asked little else, <eve> was never asked anything."""
    labels = ["sums"] * 30 + ["products"] * 10 + ["capitals"] * 30
    ada = [1.0] * 40 + [0.0] * 30
    bob = [0.0] * 4 + [np.nan] * 36 + [1.0] * 30
    scores = np.array([ada, bob, [np.nan] * 70]).T
    return SkillProfiles.from_outcomes(["ada", "bob", "<eve>"], SKILLS, CATEGORY_OF, labels, scores)


def typed(*arguments: object) -> Result:
    """What ``conclave skills`` does with these arguments, in this process."""
    app = typer.Typer()
    skills.register(app)

    @app.command()
    def other() -> None: ...

    return CliRunner().invoke(
        app, ["skills", *map(str, arguments)], env={"COLUMNS": "200"}, color=False
    )


# The map.


def test_the_map_says_who_is_best_and_how_sure_that_is() -> None:
    m = SkillMap.of(profiles())
    assert (m.rows, m.by) == (("arithmetic", "countries"), "category")
    assert [m.experts[j] for j in m.best] == ["ada", "bob"]
    assert (m.low <= m.mean).all()
    assert (m.mean <= m.high).all()
    widths = (m.high - m.low)[0]
    assert widths[0] < widths[1] < widths[2]  # asked much, little, never
    assert m.n[0].tolist() == [40, 4, 0]


def test_rows_and_columns_are_chosen_and_sorted() -> None:
    by_skill = SkillMap.of(profiles(), by="skill", sort="n")
    assert by_skill.rows == ("products", "sums", "capitals")
    assert SkillMap.of(profiles(), category="arithmetic").rows == ("sums", "products")
    assert SkillMap.of(profiles(), by="skill", sort="name").rows == ("capitals", "products", "sums")
    alone = SkillMap.of(profiles(), expert="bob", sort="best")
    assert (alone.experts, alone.rows) == (("bob",), ("countries", "arithmetic"))
    doubtful = SkillMap.of(profiles(), by="skill", sort="doubt")
    assert doubtful.rows[0] == "products"


def test_unknown_names_are_told_with_the_nearest() -> None:
    with pytest.raises(UnknownName, match="arithmetic"):
        SkillMap.of(profiles(), category="arithmetics")
    with pytest.raises(UnknownExpert, match="ada"):
        SkillMap.of(profiles(), expert="adda")


def test_those_that_may_be_as_good_as_the_best_are_named() -> None:
    scores = np.array([[1.0] * 10, [1.0] * 9 + [0.0], [0.0] * 10]).T
    m = SkillMap.of(
        SkillProfiles.from_outcomes(
            ["ada", "bob", "eve"], ["sums"], CATEGORY_OF, ["sums"] * 10, scores
        )
    )
    assert m.tied(0) == ["bob"]


# Pictures.


def test_colours_get_lighter_with_the_chance() -> None:
    def light(colour: str) -> float:
        r, g, b = bytes.fromhex(colour[1:])
        return 0.2126 * r + 0.7152 * g + 0.0722 * b

    steps = [light(colour_of(p)) for p in np.linspace(0, 1, 21)]
    assert steps == sorted(steps)
    assert steps[-1] - steps[0] > 150


def test_the_svg_tells_every_number_and_shows_doubt_by_size() -> None:
    m = SkillMap.of(profiles(), by="skill")
    root = ElementTree.fromstring(heat_map(m))
    space = "{http://www.w3.org/2000/svg}"
    titles = [t.text or "" for t in root.iter(f"{space}title")]
    assert any(t.startswith("ada at sums: ") and "30 observations" in t for t in titles)
    side = {
        title.text.split(":")[0]: float(box.get("width", "0"))
        for box in root.iter(f"{space}rect")
        if (title := box.find(f"{space}title")) is not None and title.text
    }
    assert side["ada at sums"] > side["bob at sums"] > side["<eve> at sums"]
    assert any(text.text == "<eve>" for text in root.iter(f"{space}text"))


def test_the_svg_stands_alone() -> None:
    drawn = heat_map(SkillMap.of(profiles()))
    assert "&lt;eve&gt;" in drawn
    assert not re.search(r"<(script|style|image)|href=|class=", drawn)
    assert "http" not in drawn.replace("http://www.w3.org/2000/svg", "")


# The command.


def bundled_cards() -> tuple[ExpertCard, ...]:
    return Pool.of(make_experts(Config()).values()).cards


def test_the_table_shows_the_shipped_pool() -> None:
    run = typed()
    assert run.exit_code == 0, run.output
    assert "arithmetic" in run.stdout
    assert "generalist" in run.stdout
    assert "conclave skills --out" in run.stdout
    found = json.loads(typed("--json", "--by", "skill", "--sort", "best").stdout)
    assert len(found["rows"]) == 28
    cell = found["rows"][0]["cells"][0]
    assert cell["ci"][0] <= cell["mean"] <= cell["ci"][1]
    assert found["annotator"] == "neighbours"


def test_the_best_of_a_row_is_bold() -> None:
    out = StringIO()
    Console(file=out, width=120, force_terminal=True, color_system="standard").print(
        skills.format_map(SkillMap.of(profiles()))
    )
    text = out.getvalue()
    [line] = [x for x in text.splitlines() if "countries" in x]
    assert f"\x1b[1m{SkillMap.of(profiles()).mean[1, 1] * 100:.0f} " in line


def test_one_category_and_one_expert() -> None:
    run = typed("--category", "units", "--expert", "units")
    assert "weekday" in run.stdout
    assert "capital" not in run.stdout
    wrong = typed("--category", "unit")
    assert "units" in str(wrong.exception)
    assert "Did you mean" in str(typed("--sort", "bst").exception)


def test_the_map_is_drawn_into_a_file(tmp_path: Path) -> None:
    run = typed("--out", tmp_path / "map.svg")
    assert run.exit_code == 0, run.output
    root = ElementTree.parse(tmp_path / "map.svg").getroot()
    assert "generalist" in {text.text for text in root.iter("{http://www.w3.org/2000/svg}text")}
    assert [p.name for p in tmp_path.iterdir()] == ["map.svg"]


@pytest.mark.parametrize("name", ["map.png", "map.html", "map"])
def test_a_map_by_another_name_is_told_what_to_be_called(tmp_path: Path, name: str) -> None:
    wrong = typed("--out", tmp_path / name).exception
    assert isinstance(wrong, DataError)
    assert f"name it {tmp_path / 'map.svg'}" in str(wrong)
    assert not list(tmp_path.iterdir())


def test_a_map_that_cannot_be_written_is_an_error(tmp_path: Path) -> None:
    assert "no folder" in str(typed("--out", tmp_path / "none" / "map.svg").exception)
    assert "is a folder" in str(typed("--out", tmp_path).exception)


def test_outcomes_that_came_since_are_in_the_map(data_dir: Path) -> None:
    versions = {m.name: m.version for m in bundled_cards()}
    with Ledger(data_dir / "ledger.sqlite") as ledger:
        for name in ("France", "Peru", "Japan"):
            asked = pools.query(f"What is the capital of {name}?", query_id=name)
            ledger.add_query(asked, source="serve", label=Label(skill="capital"))
            call = Call(query_id=name, arm=Arm("countries"), messages=asked.messages,
                        sampling=Sampling())  # fmt: skip
            [call_id] = ledger.add_calls([Completion(call=call)], [None], versions=versions)
            ledger.add_verdicts([Verdict(call_id=call_id, score=0.0, source="feedback")])
    run = typed("--expert", "countries", "--category", "countries")
    assert "With 3 outcomes that were judged after the fit." in run.stdout
    assert json.loads(typed("--json").stdout)["n_newer"] == 3


# The taxonomy.


def test_the_taxonomy_is_printed_copied_edited_and_checked(tmp_path: Path) -> None:
    run = typed("taxonomy")
    assert run.exit_code == 0, run.output
    assert "28 skills in 7 categories" in run.stdout
    assert "--copy my-taxonomy.json" in run.stdout
    mine = tmp_path / "mine.json"
    run = typed("taxonomy", "--copy", mine)
    assert Taxonomy.load(mine) == Taxonomy.load()
    assert f"write `taxonomy: {mine}` in conclave.yaml" in run.stdout.replace("\n", " ")
    assert "exists" in str(typed("taxonomy", "--copy", mine).exception)
    text = mine.read_text().replace('"uppercase"', '"addition"')
    mine.write_text(text)
    line = text.splitlines().index('    "addition": "Writing a word in capital letters.",') + 1
    assert f"{mine}, line {line}: the skill 'addition'" in str(typed("taxonomy", mine).exception)


def test_labels_that_the_taxonomy_lacks_are_told_with_the_nearest(
    data_dir: Path, tmp_path: Path
) -> None:
    with Ledger(data_dir / "ledger.sqlite") as ledger:
        ledger.add_query(pools.query("1+1?"), source="record", label=Label(skill="additon"))
    run = typed("taxonomy")
    assert run.exit_code == 1
    assert "'additon', which is not in it. Did you mean 'addition'?" in run.stdout
    found = json.loads(typed("taxonomy", "--json").stdout)
    assert found["unknown_labels"] == [{"skill": "additon", "nearest": "addition"}]


# Annotators compared.

TAXONOMY = Taxonomy.parse(
    '{"arithmetic": {"addition": "How much is a number plus a number."}, '
    '"countries": {"capital": "Which city is the capital of a country."}}',
    "small.json",
)


@pytest.fixture(scope="module")
def compared() -> Comparison:
    """An LLM that names skills well, and charges for it."""
    embedder = HashingEmbedder()
    asked = pools.questions(120)
    settings = KeywordSettings(expert="namer")
    namer = FakeExpert(
        "namer", lambda c: "plus" if "plus" in c.messages[-1].content else "capital, city"
    )
    experts = pools.experts(asked)
    with Ledger(":memory:") as ledger:
        asyncio.run(record_outcomes(asked, experts, ledger))
        calls = list(ledger.recorded_calls())
        annotator = keyword_annotator(TAXONOMY.names, TAXONOMY, embedder)
        return compare_annotators(
            [c for c in calls if c.split != "test"],
            [c for c in calls if c.split == "test"],
            Pool.of(experts.values()),
            TAXONOMY,
            embedder,
            fallback_price_usd=1e-3,
            ask_keywords=lambda queries: ask_for_keywords(
                queries, settings, {**experts, "namer": namer}, ledger, annotator
            ),
        )


def test_annotators_are_compared_where_they_were_not_fitted(compared: Comparison) -> None:
    known = {f.annotator: f for f in compared.known}
    assert list(known) == [
        "best-single", "neighbours", "descriptors", "classifier", "keywords", "told",
    ]  # fmt: skip
    assert {f.n for f in compared.known} == {40}
    for name in ("neighbours", "classifier", "keywords", "told"):
        assert known[name].skill_accuracy == 1
        assert known[name].accuracy >= known["best-single"].accuracy + 0.4
    assert known["told"].log_loss == 0
    assert known["neighbours"].skill_accuracy_gain is None
    gain = known["descriptors"].skill_accuracy_gain
    assert gain is not None
    assert gain.ci[0] <= gain.value <= gain.ci[1]


def test_keywords_are_charged_against_what_they_gain(compared: Comparison) -> None:
    known = {f.annotator: f for f in compared.known}
    assert known["neighbours"].usd == 0
    assert known["keywords"].usd > 1e-6
    saved = known["keywords"].objective_usd_saved
    assert saved is not None
    # Right on the same questions, at the price of five calls more.
    assert saved.value == pytest.approx(-known["keywords"].usd)
    assert saved.ci[1] < 0


def test_of_a_hidden_category_only_sentences_and_keywords_know_the_name(
    compared: Comparison,
) -> None:
    hidden = {f.annotator: f for f in compared.hidden}
    assert "told" not in hidden
    assert hidden["neighbours"].skill_accuracy == hidden["classifier"].skill_accuracy == 0
    assert hidden["keywords"].skill_accuracy == 1
    assert hidden["descriptors"].skill_accuracy > 0.5


def test_a_skill_that_nothing_was_fitted_on_is_refused() -> None:
    asked = pools.questions(80)
    experts = pools.experts(asked)
    with Ledger(":memory:") as ledger:
        asyncio.run(record_outcomes(asked, experts, ledger))
        calls = list(ledger.recorded_calls())
        with pytest.raises(DataError, match="has the skill capital: record some"):
            compare_annotators(
                [c for c in calls if c.skill == "addition"],
                calls,
                Pool.of(experts.values()),
                TAXONOMY,
                HashingEmbedder(),
                fallback_price_usd=1e-3,
            )


def test_the_tables_fit_and_say_what_they_show(compared: Comparison) -> None:
    text = shown(*annotators.format_comparison(compared))
    assert "40 questions with new wordings (fitted on 80)" in text
    assert "without its category" in text
    assert "keywords" in text


def test_the_command_runs_on_one_s_own_ledger(tmp_path: Path, data_dir: Path) -> None:
    (tmp_path / "conclave.yaml").write_text(
        "embedder: hashing\nexperts: [{kind: bundled, names: [countries, elements]}]\n"
    )
    lines = [
        {"question": form.format(k), "answer": "x", "skill": skill, "split": split}
        for skill, forms in (
            ("capital", ("What is the capital of {}?", "Name the capital of {}.")),
            ("symbol", ("What is the symbol of {}?", "Give the symbol for {}.")),
        )
        for form in forms
        for k, split in zip("abcdefghijklmnopqrstuvwx", ["train", "train", "test"] * 8, strict=True)
    ]
    (tmp_path / "mine.jsonl").write_text("\n".join(map(json.dumps, lines)))
    assert in_process("record", "mine.jsonl", "--json").returncode == 0
    run = in_process(
        "eval", "skills", "--ledger", "--keywords", "elements", "--passes", "2", "--json"
    )
    assert run.returncode == 0, run.stderr
    found = json.loads(run.stdout)
    assert found["data"] == "ledger"
    by_name = {f["annotator"]: f for f in found["known"]}
    assert by_name["neighbours"]["n"] == 32
    assert by_name["classifier"]["skill_accuracy"] == 1
    assert by_name["keywords"]["usd"] > 0
    wrong = in_process("eval", "skills", "--ledger", "--keywords", "element")
    assert "elements" in wrong.stderr


def test_the_command_says_what_is_missing() -> None:
    app = typer.Typer()
    annotators.register(app)

    @app.command()
    def other() -> None: ...

    run = CliRunner().invoke(app, ["skills", "--ledger", "--json"])
    with pytest.raises(DataError, match="the split test"):
        told(run)
