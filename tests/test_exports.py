"""The drawn world's files in the public forms: what loaders of the public data rely on."""

import csv
import hashlib
import json
import re
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from command_line import run as negclip  # type: ignore[import-not-found]
from PIL import Image

from negclip_core.errors import RequestError
from negclip_core.language import has_negation, parse
from negclip_core.world.catalog import split_of
from pipelines.miniature.export import run

N = 60
Export = tuple[Path, dict[str, Any]]


@pytest.fixture(scope="module", params=["train", "test"])
def export(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Export:
    folder = tmp_path_factory.mktemp(request.param)
    report = run(folder, N, seed=5, split=request.param)
    return folder, {name: _read(Path(path)) for name, path in report["files"].items()} | {"report": report}


def _read(path: Path) -> Any:
    text = path.read_text("utf-8")
    return json.loads(text) if path.suffix == ".json" else text


def _mask(segmentation: dict[str, Any]) -> np.ndarray:
    flat = np.repeat(np.arange(len(segmentation["counts"])) % 2, segmentation["counts"])
    return flat.reshape(segmentation["size"][::-1]).T


def test_only_a_quiet_command_shows_no_bar(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["miniature", "export", "--images", "2", "--out", str(tmp_path)]
    assert negclip([*words, "--quiet"], monkeypatch, capsys)[::2] == (0, "")
    code, _, err = negclip(words, monkeypatch, capsys)
    assert code == 0 and "drawing" in err


def test_every_image_named_is_there_and_has_its_size(export: Export) -> None:
    folder, files = export
    assert len(files["captions"]["images"]) == N
    for image in files["instances"]["images"]:
        with Image.open(folder / "images" / image["file_name"]) as picture:
            assert picture.size == (image["width"], image["height"])


def test_counts_are_those_of_the_files(export: Export) -> None:
    _, files = export
    counts = files["report"]["counts"]
    assert counts["images"] == N
    for name in ("refcocog", "existence", "negrefcocog", "prompts"):
        assert counts[name] == len(files[name])


def test_captions_are_five_an_image_without_negation(export: Export) -> None:
    _, files = export
    annotations = files["captions"]["annotations"]
    assert set(Counter(a["image_id"] for a in annotations).values()) == {5}
    assert len({a["id"] for a in annotations}) == len(annotations)
    assert not any(has_negation(a["caption"]) for a in annotations)


def test_boxes_are_tight_around_the_masks(export: Export) -> None:
    _, files = export
    for annotation in files["instances"]["annotations"]:
        mask = _mask(annotation["segmentation"])
        assert mask.sum() == annotation["area"]
        if annotation["area"]:
            rows, columns = np.nonzero(mask)
            x, y = columns.min(), rows.min()
            assert annotation["bbox"] == [x, y, columns.max() - x + 1, rows.max() - y + 1]


def test_referring_expressions_point_at_instances_of_their_image(export: Export) -> None:
    _, files = export
    by_id = {a["id"]: a for a in files["instances"]["annotations"]}
    for name, negated in (("refcocog", False), ("refcocog_negated", True)):
        assert files[name]
        for ref in files[name]:
            assert by_id[ref["ann_id"]]["image_id"] == ref["image_id"]
            assert by_id[ref["ann_id"]]["category_id"] == ref["category_id"]
            assert all(has_negation(sentence["sent"]) == negated for sentence in ref["sentences"])


def test_of_four_captions_the_first_is_true(export: Export) -> None:
    _, files = export
    by_name = {image["file_name"]: image["id"] for image in files["instances"]["images"]}
    names = {c["id"]: c["name"] for c in files["instances"]["categories"]}
    there: dict[int, set[str]] = {}
    for a in files["instances"]["annotations"]:
        there.setdefault(a["image_id"], set()).add(names[a["category_id"]])
    rows = list(csv.DictReader(files["choices"].splitlines()))
    assert len(rows) == files["report"]["counts"]["choices"] > 10
    assert {row["correct_answer_template"] for row in rows} == {"positive", "negative", "hybrid"}
    for row in rows:
        present = there[by_name[row["image_path"]]]
        truths = [_true(row[f"caption_{i}"], present, set(names.values())) for i in range(4)]
        assert truths == [True, False, False, False], row


def _true(caption: str, present: set[str], kinds: set[str]) -> bool:
    """Whether a caption denies nothing that is there and says nothing that is not."""
    read = parse(caption)
    forms = {form: kind for kind in kinds for form in (kind, f"{kind}s", f"{kind}es")} | {"people": "person"}
    denied, said = ({forms[word] for word in text.replace(",", "").split() if word in forms}
                    for text in (read.negative_prompt, read.affirmative))  # fmt: skip
    return bool(denied | said) and not denied & present and said <= present


def _there(files: dict[str, Any]) -> dict[str, set[str]]:
    """What each picture shows, by its file's name."""
    names = {image["id"]: image["file_name"] for image in files["instances"]["images"]}
    kinds = {c["id"]: c["name"] for c in files["instances"]["categories"]}
    there: dict[str, set[str]] = {}
    for a in files["instances"]["annotations"]:
        there.setdefault(names[a["image_id"]], set()).add(kinds[a["category_id"]])
    return there


def test_cc_neg_denies_what_is_there(export: Export) -> None:
    _, files = export
    there, kinds = _there(files), {c["name"] for c in files["instances"]["categories"]}
    rows = files["cc_neg"]
    assert len(rows["image_paths"]) == len(rows["annotations"]) == files["report"]["counts"]["cc_neg"] > 10
    for name, row in zip(rows["image_paths"], rows["annotations"], strict=True):
        caption, denied = row["json"]["caption"], row["sop_data"]["negative-prompt"]
        assert not has_negation(caption) and _true(caption, there[name], kinds), caption
        assert has_negation(denied) and not _true(denied, there[name], kinds), denied


def test_triples_are_told_apart_by_the_picture_alone(export: Export) -> None:
    _, files = export
    there, kinds = _there(files), {c["name"] for c in files["instances"]["categories"]}
    rows = files["simpleneg"]
    assert len(rows) == files["report"]["counts"]["simpleneg"] > 10
    for row in rows:
        present = there[row["image"]]
        assert has_negation(row["negated_true"]) and has_negation(row["negated_false"])
        assert _true(row["negated_true"], present, kinds) and not _true(row["negated_false"], present, kinds)
        assert not has_negation(row["affirmative"])
    true, false = (
        Counter(_denied(row["affirmative"], row[key], kinds) for row in rows)
        for key in ("negated_true", "negated_false")
    )
    assert true == false


def _denied(base: str, caption: str, kinds: set[str]) -> tuple[str, str]:
    """The place, and the kind that a caption denies."""
    forms = {form: kind for kind in kinds for form in (kind, f"{kind}s", f"{kind}es")} | {"people": "person"}
    words = parse(caption).negative_prompt.replace(",", "").split()
    return base.split(" with ")[0], next(forms[word] for word in words if word in forms)


def test_swapped_captions_have_the_same_words_and_other_pictures(export: Export) -> None:
    folder, files = export
    rows = [json.loads(line) for line in files["swaps"].splitlines()]
    assert len(rows) == files["report"]["counts"]["swaps"] == N // 5
    assert {row["tag"] for row in rows} == {"colour", "worn"}
    for row in rows:
        first, second = row["caption_0"], row["caption_1"]
        assert first != second and sorted(first.split()) == sorted(second.split())
        pictures = [
            np.asarray(Image.open(folder / "images" / f"{row[name]}.png")) for name in ("image_0", "image_1")
        ]
        assert 0 < (pictures[0] != pictures[1]).any(-1).mean() < 0.6


def test_single_things_are_in_folders_of_their_names(export: Export) -> None:
    folder, files = export
    listed = files["class_names"]
    pictures = sorted((folder / "single_things").rglob("*.png"))
    assert len(pictures) == files["report"]["counts"]["class_names"] == N // 2
    assert {path.parent.name for path in pictures} == listed.keys()
    assert listed.keys() == {c["name"] for c in files["instances"]["categories"]}
    counts = Counter(path.parent.name for path in pictures)
    assert max(counts.values()) - min(counts.values()) <= 1


def test_answers_agree_with_the_annotations(export: Export) -> None:
    _, files = export
    categories = {c["id"]: c["name"] for c in files["instances"]["categories"]}
    present: dict[int, set[str]] = {}
    for a in files["instances"]["annotations"]:
        present.setdefault(a["image_id"], set()).add(categories[a["category_id"]])
    answers = {a["question_id"]: a["multiple_choice_answer"] for a in files["vqa_annotations"]["annotations"]}
    checked = 0
    for question in files["vqa_questions"]["questions"]:
        assert answers[question["question_id"]] in ("yes", "no")
        for kind in ("car", "tree", "dog"):
            if question["question"].startswith(
                (f"Is there a {kind}", f"Are there any {kind}s", f"Are there {kind}s")
            ):
                there = kind in present.get(question["image_id"], set())
                assert answers[question["question_id"]] == ("yes" if there else "no")
                checked += 1
    assert checked > 10


def test_existence_is_balanced_and_its_no_is_true_where_it_says_so(export: Export) -> None:
    _, files = export
    rows = list(files["existence"].values())
    denying = [row for row in rows if has_negation(row["caption"])]
    assert abs(2 * len(denying) - len(rows)) <= 1
    assert all(has_negation(row["caption"]) != has_negation(row["foil"]) for row in rows)
    assert all((row["classes"] == 0) == (row in denying) for row in rows)


def test_negrefcocog_gives_two_boxes_or_more_and_the_counterpart_another_one(export: Export) -> None:
    _, files = export
    assert len(files["negrefcocog"]) == len(files["negrefcocog_affirmative"]) >= 0.9 * N / 2
    for negated, affirmative in zip(files["negrefcocog"], files["negrefcocog_affirmative"], strict=True):
        assert len(negated["bbox_list"]) >= 2 and negated["ref_bbox"] in negated["bbox_list"]
        assert (
            affirmative["ref_bbox"] in negated["bbox_list"] and affirmative["ref_bbox"] != negated["ref_bbox"]
        )
        assert has_negation(negated["phrase"]) and not has_negation(affirmative["phrase"])


def test_no_file_holds_a_combination_that_another_split_owns(export: Export) -> None:
    _, files = export
    split = files["report"]["split"]
    images = files["captions"]["images"]
    foreign = {image["id"]: set(image["held_out"]) for image in images}
    assert any(foreign.values())
    for image in images:
        for what in foreign[image["id"]]:
            noun, _, attribute = what.partition(" with ")
            kind = "person" if what in ("man", "woman") else what
            combination = (
                ("noun_attribute", noun, attribute) if attribute else ("place_kind", image["place"], kind)
            )
            assert split_of(*combination) not in ("train", split)
    for question in files["vqa_questions"]["questions"]:
        asked = re.match(r"(?:Is|Are) there (?:an? |any )?(\w+)", question["question"])
        if asked:
            assert not {asked[1], asked[1].removesuffix("s")} & foreign[question["image_id"]], question
    for row in files["existence"].values():
        assert not set(row["caption"].strip(".").split()) & foreign[int(row["dataset_idx"])]


def test_prompts_are_different_and_of_the_split(export: Export) -> None:
    _, files = export
    prompts = files["prompts"]
    assert len({row["prompt"] for row in prompts}) == len({row["id"] for row in prompts}) == N
    for row in prompts:
        assert row["split"] == files["report"]["split"]
        assert bool(row["negated"]) == has_negation(row["prompt"]) == (row["family"] != "none")


def test_the_same_seed_gives_the_same_bytes(tmp_path: Path) -> None:
    def digest(folder: Path) -> dict[str, str]:
        run(folder, 4, seed=9, split="validation")
        files = (path for path in folder.rglob("*") if path.is_file())
        return {str(p.relative_to(folder)): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}

    assert digest(tmp_path / "a") == digest(tmp_path / "b")


@pytest.mark.parametrize(("images", "seed", "split"), [(0, 0, "train"), (1, -1, "train"), (1, 0, "dev")])
def test_wrong_requests_are_refused_before_anything_is_written(
    tmp_path: Path, images: int, seed: int, split: str
) -> None:
    with pytest.raises(RequestError, match="expected"):
        run(tmp_path / "new", images, seed, split)
    assert not (tmp_path / "new").exists()
