"""What negclip_core.language finds: absent things, the affirmative rest, and the captions left alone."""

import json
import os
import time
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from integrations.methods import find_method
from negclip_core.errors import RequestError
from negclip_core.language import Negation, Parse, has_negation, parse
from pipelines.parse import run

TABLES = Path(__file__).parent / "language_cases"
Case = tuple[str, tuple[str, ...], str]


def _lines(name: str) -> list[str]:
    lines = (TABLES / f"{name}.txt").read_text(encoding="utf-8").splitlines()
    return [line for line in lines if line and not line.startswith("#")]


def _rows(name: str) -> list[list[str]]:
    return [[cell.strip() for cell in line.split("|")] for line in _lines(name)]


def _cases(name: str) -> list[Case]:
    return [(row[0], tuple(filter(None, row[1].split("; "))), row[2]) for row in _rows(name)]


def _answer(text: str) -> Case:
    found = parse(text)
    return text, tuple(thing for negation in found.negations for thing in negation.absent), found.affirmative


@pytest.mark.parametrize("case", _cases("tuned"), ids=lambda case: case[0])
def test_absent_things_and_affirmative_rest(case: Case) -> None:
    assert _answer(case[0]) == case


@pytest.mark.parametrize("row", _rows("tuned"), ids=lambda row: row[0])
def test_cues_and_their_scopes(row: list[str]) -> None:
    negations = parse(row[0]).negations
    assert "; ".join(f"{found.cue}: {found.scope}".strip() for found in negations) == row[3]


def test_held_out_sentences() -> None:
    cases = _cases("held_out")
    wrong = [(case, _answer(case[0])) for case in cases if _answer(case[0]) != case]
    assert len(cases) >= 110
    assert len(wrong) / len(cases) <= 0.1, wrong
    assert all(has_negation(text) for text, _, _ in cases)


@pytest.mark.parametrize("text", _lines("affirmative"))
def test_false_friends_are_left_alone(text: str) -> None:
    assert not has_negation(text)
    assert parse(text) == Parse(text, (), text, "")


@pytest.mark.parametrize("text", [case[0] for case in _cases("tuned") + _cases("held_out")])
def test_spans_are_the_texts_own_characters(text: str) -> None:
    found = parse(text)
    assert has_negation(text) is bool(found.negations)
    assert found.text == text
    for negation in found.negations:
        assert text[slice(*negation.cue_span)] == negation.cue
        assert text[slice(*negation.scope_span)] == negation.scope


@pytest.mark.parametrize("text", [case[0] for case in _cases("tuned") + _cases("held_out")])
def test_affirmative_rest_holds_no_negation(text: str) -> None:
    assert not has_negation(parse(text).affirmative)


def test_parse_in_full() -> None:
    found = parse("a street with no cars or people")
    assert found.negations == (Negation("no", (14, 16), "cars or people", (17, 31), ("cars", "people")),)
    assert found.affirmative == "a street"
    assert found.negative_prompt == "cars, people"


def test_cues_are_found_inside_words() -> None:
    affix, contraction = parse("a carless street").negations[0], parse("it isn ' t red").negations[0]
    assert (affix.cue, affix.cue_span, affix.scope, affix.scope_span) == ("less", (5, 9), "car", (2, 5))
    assert (contraction.cue, contraction.cue_span) == ("n ' t", (5, 10))


def test_an_absent_thing_said_twice_is_prompted_once() -> None:
    assert parse("a street with no cars, and no cars in sight").negative_prompt == "cars"


def test_quotes_around_the_whole_prompt_hide_nothing() -> None:
    assert has_negation('"a street with no cars"')
    assert not has_negation('a wall with "no cars" on it')


@pytest.mark.parametrize(
    "text", ["", " ", "no", "without", "n't", "no no no", "?", "less", "a\nstreet", "无车"]
)
def test_scraps_do_not_break_it(text: str) -> None:
    assert has_negation(text) is bool(parse(text).negations)


_WORDS = [
    "no", "not", "without", "a", "an", "the", "of", "in", "with", "and", ",", ".", ";", "(", ")", ":1.3", "street", "cars",
    "tree", "treeless", "none", "nobody", "nowhere", "to", "be", "seen", "isn't", "never", "aren't", "'t", "--", "devoid",
    "free", "lacking", "missing", "who", "where", "there", "is", "are", "can", "runs", "running", "visible", "雨",
]  # fmt: skip


@given(st.lists(st.sampled_from(_WORDS), min_size=1, max_size=9).map(" ".join))
@example("none of the cars isn't visible")  # one negation within what another denies
@settings(max_examples=1000, derandomize=True, database=None, deadline=None)
def test_words_in_any_order_are_read_to_the_end(text: str) -> None:
    assert has_negation(text) is bool(parse(text).negations)
    assert find_method("rephrased").arguments(text)["prompt"].strip()


def test_run_gives_the_command_lines_json() -> None:
    records = run(["a street with no cars", "a street"])
    assert json.loads(json.dumps(records)) == records
    assert records[0] == {
        "text": "a street with no cars",
        "negations": [
            {"cue": "no", "cue_span": [14, 16], "scope": "cars", "scope_span": [17, 21], "absent": ["cars"]}
        ],
        "affirmative": "a street",
        "negative_prompt": "cars",
    }
    assert records[1]["negations"] == [] and records[1]["affirmative"] == "a street"


@pytest.mark.parametrize("texts", [[], ["a street", "  "]])
def test_run_refuses_nothing_to_parse(texts: list[str]) -> None:
    with pytest.raises(RequestError):
        run(texts)


def _seconds(texts: list[str]) -> float:
    started = time.process_time()
    for text in texts * 20:
        has_negation(text)
    return time.process_time() - started


def test_captions_without_negation_are_quick() -> None:
    negated = [text for text, _, rest in _cases("tuned") if rest]
    affirmative = [rest for _, _, rest in _cases("tuned") if rest]
    # Against the negated ones of the same machine, not a clock: a cheap look settles most affirmative texts.
    assert min(_seconds(affirmative) for _ in range(3)) < min(_seconds(negated) for _ in range(3)) / 10


def _sample(name: str) -> Path:
    """A file of the real data sets' samples, which the project does not hold."""
    folder = os.environ.get("NEGCLIP_SAMPLE_DATA") or Path(__file__).parents[2] / "shared" / "data"
    path = Path(folder) / name
    if not path.exists():
        pytest.skip(f"{name} is not here (set NEGCLIP_SAMPLE_DATA to its folder)")
    return path


def test_gate_on_referring_expressions() -> None:
    phrases = [item["phrase"] for item in json.loads(_sample("negrefcocog_sample.json").read_text())]
    right = sum(
        has_negation(phrase) is not ("no . 1 " in phrase or "no . 350" in phrase) for phrase in phrases
    )
    assert right / len(phrases) >= 0.98


def test_gate_on_captions_without_negation() -> None:
    path = _sample("coco_sample/annotations/captions_train2017.json")
    captions = [annotation["caption"] for annotation in json.loads(path.read_text())["annotations"]]
    fired = [caption for caption in captions if has_negation(caption)]
    assert len(fired) / len(captions) <= 0.01, fired


def test_one_of_caption_and_foil_is_negated() -> None:
    items = json.loads(_sample("valse_existence_sample.json").read_text()).values()
    right = sum(has_negation(item["caption"]) is not has_negation(item["foil"]) for item in items)
    assert right / len(items) >= 0.98
