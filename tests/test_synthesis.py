"""Captions that say what is absent: only what the annotations confirm, only in words that fit, nothing held out."""

import asyncio
import json
import re
import shutil
from collections import defaultdict
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from negclip_core.captions.annotated import Annotations, LikelyProposer, RandomProposer
from negclip_core.captions.checks import failure
from negclip_core.captions.journal import Journal
from negclip_core.captions.questions import asked
from negclip_core.captions.running import synthesize_all
from negclip_core.captions.steps import synthesize
from negclip_core.captions.synthesis import Claim, Outcome, Roles, Task
from negclip_core.captions.writing import PhrasingWriter
from negclip_core.errors import RequestError
from negclip_core.files import sha256_file
from negclip_core.language import has_negation
from negclip_core.world.catalog import split_of
from pipelines.miniature import export
from pipelines.synthesize import run


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("world")
    return {name: Path(path) for name, path in export.run(folder, 120, 3, "train")["files"].items()}


@pytest.fixture(scope="module")
def written(world: dict[str, Path]) -> dict[str, dict]:
    found = {}
    for pipeline in ("p1", "rand-p1", "p2"):
        out = world["captions"].parent / f"{pipeline}.json"
        vqa = [world["vqa_questions"], world["vqa_annotations"]]
        counts = run(world["captions"], world["instances"], vqa, pipeline, out, seed=0)
        found[pipeline] = json.loads(out.read_text("utf-8"))
        assert counts["written"] == len(found[pipeline]["annotations"]) > 100
        assert counts["refuted"] == len(found[pipeline]["present"])
    return found


def _held(world: dict[str, Path]) -> tuple[dict[int, set[str]], dict[int, dict[str, list[dict]]]]:
    """By image: the kinds of things in it, and the things themselves by what they are called."""
    document = json.loads(world["instances"].read_text("utf-8"))
    names = {entry["id"]: entry["name"] for entry in document["categories"]}
    kinds: dict[int, set[str]] = {image["id"]: set() for image in document["images"]}
    things: dict[int, dict[str, list[dict]]] = {key: defaultdict(list) for key in kinds}
    for entry in document["annotations"]:
        kinds[entry["image_id"]] |= {names[entry["category_id"]], entry["gender"]} - {""}
        for noun in {names[entry["category_id"]], entry["gender"]}:
            things[entry["image_id"]][noun].append(entry)
    return kinds, things


@pytest.mark.parametrize("pipeline", ["p1", "rand-p1"])
def test_what_is_called_absent_is_absent(
    pipeline: str, written: dict[str, dict], world: dict[str, Path]
) -> None:
    kinds, wearers = _held(world)
    worn = {"hat", "glasses", "umbrella"}
    document = json.loads(world["instances"].read_text("utf-8"))
    colours = {entry["colour"] for entry in document["annotations"]}
    for entry in written[pipeline]["annotations"]:
        assert has_negation(entry["updated_caption"])
        assert not has_negation(entry["affirmative"]) and not has_negation(entry["asserted"])
        for thing in entry["absent"]:
            if thing in worn:
                (wearer,) = wearers[entry["image_id"]][entry["of"]]
                assert thing not in wearer["attributes"]
                assert entry["of"] in re.findall(r"\w+", entry["affirmative"])
            elif thing in colours:
                (coloured,) = wearers[entry["image_id"]][entry["of"]]
                assert thing != coloured["colour"]
                assert entry["affirmative"] == entry["caption"] and thing in entry["asserted"]
            else:
                assert thing not in kinds[entry["image_id"]]
    for entry in written[pipeline]["present"]:
        for thing in set(entry["absent"]) - worn:
            if thing in colours:
                assert [thing] == [one["colour"] for one in wearers[entry["image_id"]][entry["of"]]]
            else:
                assert thing in kinds[entry["image_id"]]


def test_nothing_held_out_is_called_absent(written: dict[str, dict]) -> None:
    for document in written.values():
        places = {image["id"]: image["place"] for image in document["images"]}
        for entry in (*document["annotations"], *document["present"]):
            for thing in entry["absent"]:
                kind = "person" if thing in ("man", "woman") else thing
                assert split_of("place_kind", places[entry["image_id"]], kind) == "train"


def test_phrasings_pass_the_checks_that_language_models_must(
    written: dict[str, dict], world: dict[str, Path]
) -> None:
    names = Annotations(json.loads(world["instances"].read_text("utf-8"))).names
    for document in written.values():
        for entry in (*document["annotations"], *document["present"]):
            text = entry.get("updated_caption") or entry["negated"]
            # A seat on which nobody is may also be said to be "not in use".
            unused = {"use", "used"} if entry["of"] and entry["absent"] == ["person"] else set()
            forms = [names.of(thing) | unused for thing in entry["absent"]]
            assert failure(text, entry["caption"], forms, entry["affirmative"]) == "", text


def test_p1_names_what_is_likely_and_rand_p1_anything(written: dict[str, dict]) -> None:
    def boats_in_kitchens(pipeline: str) -> int:
        places = {image["id"]: image["place"] for image in written[pipeline]["images"]}
        return sum(
            "boat" in entry["absent"] and places[entry["image_id"]] == "kitchen"
            for entry in written[pipeline]["annotations"]
        )

    assert boats_in_kitchens("p1") == 0 < boats_in_kitchens("rand-p1")


def test_a_caption_is_written_around_a_person() -> None:
    annotations = Annotations({
        "images": [{"id": 1, "place": "park"}], "categories": [{"id": 1, "name": "person"}],
        "annotations": [{"image_id": 1, "category_id": 1, "gender": "man", "attributes": []}],
        "attributes": {"hat": {"article": "a", "verb": "wearing"}},
    })  # fmt: skip
    writer, claims = PhrasingWriter(annotations), (Claim("hat", "man", "worn"),)
    image = {"id": 1, "place": "park", "where": "in the park"}
    texts = {
        writer.write(image, "a man in red and a dog", claims, np.random.default_rng(s)) for s in range(30)
    }
    assert all(text is not None and text.text.endswith(" and a dog") for text in texts)
    assert any(text is not None and text.text == "a man in red without a hat and a dog" for text in texts)
    assert writer.write(image, "a dog", claims, np.random.default_rng(0)) is None


@pytest.mark.parametrize(
    "caption",
    ["a dog is visible in the park", "two dogs can be seen in the park", "a photo of a dog in the park", "in the park there is a dog"],
)  # fmt: skip
def test_only_a_noun_phrase_is_put_behind_a_view_of(caption: str) -> None:
    writer = PhrasingWriter(
        Annotations({"images": [], "categories": [{"id": 1, "name": "car"}], "annotations": []})
    )

    def written(of: str) -> set[str]:
        image = {"id": 1, "where": "in the park"}
        texts = (writer.write(image, of, (Claim("car"),), np.random.default_rng(seed)) for seed in range(300))
        return {text.text for text in texts if text is not None}

    framed = re.compile(r"(this is|of|from) ")
    before = {text.partition(caption)[0] for text in written(caption)}
    assert len(before) > 5 and not any(framed.search(text) for text in before)
    assert any(framed.search(text) for text in written("a dog in the park"))


def test_of_a_person_it_is_told_what_the_only_one_lacks(world: dict[str, Path]) -> None:
    annotations = Annotations(json.loads(world["instances"].read_text("utf-8")))
    wearing = {key: found["person"] for key, found in annotations.wearing.items() if found["person"]}
    alone = next(key for key, people in wearing.items() if len(people) == 1)
    several = next(key for key, people in wearing.items() if len(people) > 1)
    (worn,) = wearing[alone]
    for thing in annotations.worn:
        assert annotations.present({"id": alone}, Claim(thing, "person", "worn")) == (thing in worn)
        assert annotations.present({"id": several}, Claim(thing, "person", "worn")) is None


def test_rand_p1_says_of_anything_what_it_does_not_wear(written: dict[str, dict]) -> None:
    of = {entry["of"] for entry in written["rand-p1"]["annotations"]}
    assert {"man", "woman"} & of and len(of - {"", "man", "woman", "person"}) > 5
    assert not any(" in the with" in entry["updated_caption"] for entry in written["rand-p1"]["annotations"])
    dressed = {"hat", "glasses", "umbrella"}
    wearers = {entry["of"] for entry in written["p1"]["annotations"] if dressed & set(entry["absent"])}
    assert wearers <= {"man", "woman", "person"}


def test_p1_says_of_what_the_caption_leaves_open_which_colour_it_does_not_have() -> None:
    def annotation(image: int, category: int, colour: str, **more: object) -> dict[str, object]:
        return {"image_id": image, "category_id": category, "colour": colour, **more}

    document: dict[str, Any] = {
        "images": [{"id": 1}, {"id": 2}], "categories": [{"id": 1, "name": "lamp"}, {"id": 2, "name": "person"}],
        "annotations": [annotation(1, 1, "red"), annotation(2, 1, "white"), annotation(2, 1, "red"),
                        annotation(1, 2, "blue", gender="man")],
    }  # fmt: skip
    annotations = Annotations(document)
    assert annotations.present({"id": 1}, Claim("white", "lamp", "coloured")) is False
    assert annotations.present({"id": 1}, Claim("red", "lamp", "coloured")) is True
    assert annotations.present({"id": 2}, Claim("white", "lamp", "coloured")) is None  # which of the two?
    assert annotations.present({"id": 1}, Claim("blue", "man", "coloured")) is True
    assert annotations.present({"id": 1}, Claim("blue", "dog", "coloured")) is None

    def proposed(caption: str, of: dict[str, object] = document) -> set[str]:
        proposer = LikelyProposer(Annotations(of))
        draws = (proposer.propose({"id": 1}, caption, np.random.default_rng(seed)) for seed in range(40))
        return {claim.of for claims in draws for claim in claims if claim.how == "coloured"}

    assert proposed("a lamp in the office") == {"lamp"}
    assert proposed("a man beside a red lamp") == {"man"}
    assert proposed("a red lamp and a man in black") == set()
    plain = [
        {key: value for key, value in each.items() if key != "colour"} for each in document["annotations"]
    ]
    assert proposed("a lamp", {**document, "annotations": plain}) == set()

    writer, claims = PhrasingWriter(annotations), (Claim("white", "lamp", "coloured"),)
    texts = [
        writer.write({"id": 1}, "a lamp in the office", claims, np.random.default_rng(seed))
        for seed in range(40)
    ]
    assert all(text is not None and text.affirmative == "a lamp in the office" for text in texts)
    assert all(
        re.fullmatch(r"a lamp (that|which|not|without).* in the office", text.text) for text in texts if text
    )
    assert {text.asserted for text in texts if text} == {"a lamp that is white in the office"}
    assert writer.write({"id": 1}, "a lamp and a lamp", claims, np.random.default_rng(0)) is None


def test_p1_says_who_is_not_there_where_annotations_tell_men_from_women() -> None:
    document = {
        "images": [{"id": key, "place": "park"} for key in (1, 2, 3)],
        "categories": [{"id": 1, "name": "person"}, {"id": 2, "name": "dog"}],
        "annotations": [{"image_id": 1, "category_id": 1, "gender": "Woman"}, {"image_id": 2, "category_id": 1},
                        {"image_id": 2, "category_id": 1, "gender": "woman"},
                        {"image_id": 3, "category_id": 1, "gender": "man"}, {"image_id": 3, "category_id": 2}],
    }  # fmt: skip
    annotations = Annotations(document)
    assert annotations.present({"id": 1}, Claim("man")) is False
    assert annotations.present({"id": 1}, Claim("woman")) is True
    assert annotations.present({"id": 2}, Claim("man")) is None  # one of the two may be
    assert annotations.present({"id": 3}, Claim("person")) is True

    def proposed(caption: str) -> set[tuple[str, ...]]:
        draws = [
            LikelyProposer(annotations).propose({"id": 1}, caption, np.random.default_rng(seed))
            for seed in range(60)
        ]
        return {tuple(sorted(claim.thing for claim in claims)) for claims in draws}

    assert proposed("a park with a woman") == {("man",), ("dog",), ("dog", "man")}
    assert ("man",) in proposed("a park") and ("man", "person") not in proposed("a park")
    image = {"id": 1, "where": "in the park"}
    for seed in range(60):
        text = PhrasingWriter(annotations).write(
            image, "a park with a woman", (Claim("man"),), np.random.default_rng(seed)
        )
        assert text is None or re.search(r"\bm[ae]n\b", text.text), text
    assert PhrasingWriter(annotations).write(
        image, "a park with men", (Claim("man"),), np.random.default_rng(0)
    ) is None  # fmt: skip


def test_what_cannot_be_seen_is_not_written() -> None:
    class Blind:
        def present(self, image: object, claim: Claim, rng: object) -> None:
            return None

    annotations = Annotations({
        "images": [{"id": 1}], "categories": [{"id": 1, "name": "dog"}, {"id": 2, "name": "cat"}],
        "annotations": [{"image_id": 1, "category_id": 1}],
    })  # fmt: skip
    roles = Roles(
        {"p1": RandomProposer(annotations)}, {"blind": Blind()}, PhrasingWriter(annotations), proposals=3
    )
    outcome = asyncio.run(synthesize(Task("p1", 1, {"id": 1}, "a dog"), roles, seed=0))
    assert outcome.entry is None and outcome.reason == "cannot be verified"


def test_a_thing_that_the_caption_names_is_not_proposed(world: dict[str, Path]) -> None:
    annotations = Annotations(json.loads(world["instances"].read_text("utf-8")))
    image = json.loads(world["captions"].read_text("utf-8"))["images"][0]
    proposer = LikelyProposer(annotations)
    named = " and ".join([*annotations.plurals.values(), "men", "women"])
    assert proposer.propose(image, named, np.random.default_rng(0)) == ()


@pytest.mark.parametrize(
    ("question", "claim"),
    [
        ("Are there any cars on the street?", Claim("car")),
        ("Is there anyone in the park?", Claim("person")),
        ("Is there a bench?", Claim("bench")),
        ("Is the woman wearing glasses?", Claim("glasses", "woman", "worn")),
        ("Does the man have an umbrella?", Claim("umbrella", "man", "worn")),
        ("Is the sofa red?", Claim("red", "sofa", "coloured")),
        ("Is anyone sitting on the bench?", Claim("person", "bench", "occupied")),
        ("What time is it?", None),
    ],
)
def test_questions_become_claims(question: str, claim: Claim | None, world: dict[str, Path]) -> None:
    assert asked(question, Annotations(json.loads(world["instances"].read_text("utf-8")))) == claim


def test_every_question_of_the_world_is_understood(written: dict[str, dict], world: dict[str, Path]) -> None:
    annotations = Annotations(json.loads(world["instances"].read_text("utf-8")))
    for entry in json.loads(world["vqa_questions"].read_text("utf-8"))["questions"]:
        assert asked(entry["question"], annotations) is not None, entry["question"]


def test_an_interrupted_run_goes_on_to_the_same_end(world: dict[str, Path], tmp_path: Path) -> None:
    annotations = Annotations(json.loads(world["instances"].read_text("utf-8")))
    document = json.loads(world["captions"].read_text("utf-8"))
    images = {image["id"]: image for image in document["images"]}
    tasks = [
        Task("p1", entry["id"], images[entry["image_id"]], entry["caption"])
        for entry in document["annotations"]
    ]

    class Failing(LikelyProposer):
        left = 100

        def propose(self, *given: Any, **options: Any) -> tuple[Claim, ...]:
            self.left -= 1
            if not self.left:
                raise OSError("the power is gone")
            return super().propose(*given, **options)

    def go_on(name: str, proposer: LikelyProposer) -> tuple[list[str], dict[str, Any]]:
        journal = Journal(tmp_path / name, {"seed": 0}, paid=False, group=10)
        try:
            roles = Roles({"p1": proposer}, {"instances": annotations}, PhrasingWriter(annotations))
            asyncio.run(synthesize_all(enumerate(tasks), roles, journal, seed=0, concurrency=1))
            return list(journal.entries("absent")), journal.counts()
        finally:
            journal.close()

    whole = go_on("whole", LikelyProposer(annotations))
    proposer = Failing(annotations)
    with pytest.raises(OSError, match="the power is gone"):
        go_on("parts", proposer)
    assert go_on("parts", proposer) == whole
    assert 100 - proposer.left == len(tasks) + 1  # none was proposed for twice but the one that failed


def test_an_answer_is_kept_as_true_or_as_refuted() -> None:
    annotations = Annotations({"images": [], "categories": [{"id": 1, "name": "car"}], "annotations": []})
    roles = Roles({}, {}, PhrasingWriter(annotations))
    for holds, state in ((False, "absent"), (True, "present")):
        image, claims = {"id": 1, "where": "on the street"}, (Claim("car"),)
        task = Task("p2", 1, image, "a street", "Are there any cars?", claims, holds)
        outcome = asyncio.run(synthesize(task, roles, seed=0))
        assert outcome.state == state and outcome.entry is not None and outcome.entry["absent"] == ["car"]


def test_bad_input_is_one_line(tmp_path: Path, world: dict[str, Path]) -> None:
    bad = tmp_path / "bad.json"
    bad.write_text("[]", "utf-8")
    with pytest.raises(RequestError, match=r"bad.json: expected a JSON object with images, annotations"):
        run(bad, world["instances"], [], "p1", tmp_path / "out.json", 0)
    with pytest.raises(RequestError, match=r"--vqa: P2 needs VQAv2's two files"):
        run(world["captions"], world["instances"], [], "p2", tmp_path / "out.json", 0)
    with pytest.raises(RequestError, match=r"--pipeline p3: expected one of p1, rand-p1, p2, both, all"):
        run(world["captions"], world["instances"], [], "p3", tmp_path / "out.json", 0)
    large = {"images": [{"id": 2**63, "file_name": "a.png"}], "annotations": []}
    bad.write_text(json.dumps(large | {"annotations": [{"image_id": 2**63, "caption": "a dog"}]}), "utf-8")
    with pytest.raises(RequestError, match=r"bad.json: .*id of .*9223372036854775808"):
        run(bad, world["instances"], [], "p1", tmp_path / "out.json", 0)
    useless: dict[str, dict[str, Any]] = {"--threshold 0.5": {"threshold": 0.5}, "--shards 2": {"shards": 2}}
    for option, given in useless.items():
        with pytest.raises(RequestError, match=f"{option}: does nothing without"):
            run(world["captions"], world["instances"], [], "p1", tmp_path / "out.json", 0, **given)
    assert not (tmp_path / "out.json").exists()


def test_files_of_one_name_are_told_apart(world: dict[str, Path], tmp_path: Path) -> None:
    copies = {role: tmp_path / role / "train.json" for role in ("captions", "instances")}
    for role, path in copies.items():
        path.parent.mkdir()
        shutil.copy(world[role], path)
    out = tmp_path / "out.json"
    run(copies["captions"], copies["instances"], [], "p1", out, seed=0)
    info = json.loads(out.read_text("utf-8"))["info"]
    assert info["inputs"] == {role: sha256_file(path) for role, path in copies.items()}
    # A journal of paid answers from before inputs were told apart is refused, and stays.
    place, old = tmp_path / "out.json.journal", {path.name: sha256_file(path) for path in copies.values()}
    settings = {name: info[name] for name in ("pipeline", "seed", "proposals")} | {"inputs": old}
    with closing(Journal(place, settings, paid=True, group=1)) as journal:
        journal.finish(0, Task("p1", 1, {"id": 1}, "a dog"), Outcome("rejected", True, True))
    with pytest.raises(RequestError, match=r"out.json.journal: was begun with another .*inputs") as error:
        run(copies["captions"], copies["instances"], [], "p1", out, seed=0)
    assert "\n" not in str(error.value) and place.exists()


def test_p2_answers_in_sentences_of_their_own_and_of_people(written: dict[str, dict]) -> None:
    entries = written["p2"]["annotations"]
    alone = [entry for entry in entries if not entry["affirmative"]]
    of_people = [entry for entry in entries if set(entry["absent"]) & {"hat", "glasses", "umbrella"}]
    assert len(alone) > len(entries) / 8 and len(of_people) > len(entries) / 12
    assert all(entry["affirmative"] in ("a man", "a woman") for entry in of_people)
