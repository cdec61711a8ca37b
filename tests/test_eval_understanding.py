"""Tasks of understanding, with tiny CLIPs of the real class: chance for who says nothing, an error for who says NaN."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from eval.encoders import Encoder, Part
from eval.options import Options
from eval.registry import Record, Values, load, task, tasks
from eval.report import write_report
from eval.runner import Subject, TaskResult, _pairs, correct, run_task
from negclip_core.clip import Clip, load_clip
from negclip_core.errors import RequestError

N = 200


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Files in the public forms, with pictures of noise."""
    folder = tmp_path_factory.mktemp("data")
    rng = np.random.default_rng(0)
    names = [f"{i:06d}.png" for i in range(N)]
    (folder / "images").mkdir()
    for name in names:
        Image.fromarray(rng.integers(0, 256, (32, 32, 3), dtype=np.uint8)).save(folder / "images" / name)
    things = ["car", "tree", "dog", "cat", "boat"]
    valse = {
        f"row{i}": {"image_file": name, "caption": f"there are no {things[i % 5]}s", "foil": f"there are {things[i % 5]}s",
                    "mturk": {"caption": 3 if i % 4 else 1}}
        for i, name in enumerate(names)
    }  # fmt: skip
    boxes = [[0, 0, 16, 16], [8, 8, 20.4, 20.2], [4, 4, 10, 20]]
    negref = [
        {"image": name, "phrase": f"a {things[i % 5]} without a hat" if i % 2 else f"a {things[i % 5]}",
         "ref_bbox": boxes[i % 3], "bbox_list": boxes}
        for i, name in enumerate(names)
    ]  # fmt: skip
    coco = {
        "images": [{"id": i, "file_name": name} for i, name in enumerate(names)],
        "annotations": [
            {"image_id": i, "caption": f"a {a} and a {b}" + (" and no bus" if i == 0 else "")}
            for i in range(N) for a, b in [(things[i % 5], things[i // 5 % 5])]
        ],
    }  # fmt: skip
    rows = [f"{name} {1 if i % 3 else -1} {1 if i % 2 else -1}" for i, name in enumerate(names)]
    options = [
        f"image_path,correct_answer,{','.join(f'caption_{i}' for i in range(4))},correct_answer_template"
    ]
    options += [f"images/{name},0,no {things[i % 5]},a {things[i % 5]},a car,a dog,{('negative', 'hybrid')[i % 2]}"
                for i, name in enumerate(names)]  # fmt: skip
    (folder / "world_mcq.csv").write_text("\n".join(options))
    (folder / "existence.json").write_text(json.dumps(valse))
    (folder / "negrefcocog.json").write_text(json.dumps(negref))
    (folder / "captions_val.json").write_text(json.dumps(coco))
    (folder / "list_attr_celeba.txt").write_text("\n".join([str(N), "Eyeglasses Male", *rows]))
    return folder


def _subject(folder: Path, name: str = "tiny", projection: float | None = None) -> Subject:
    def make(_: str) -> Encoder:
        clip: Clip = load_clip(folder)
        if projection is not None:
            clip.model.text_projection.data.fill_(projection)
        return Encoder(name, clip)

    return Subject(name, {"projection": projection}, make)


def _run(name: str, data: Path, out: Path, *subjects: Subject, **options: Any) -> TaskResult:
    return run_task(task(name), list(subjects), data, out, Options(**options), quiet=True)


def test_every_task_says_what_it_is_and_holds_what_a_task_holds() -> None:
    assert {"valse-existence", "negrefcocog", "retrieval", "celeba", "t2i-negation"} <= tasks().keys()
    for info in tasks().values():
        assert info.kind in ("understanding", "generation", "segmentation")
        module = load(info)
        assert callable(module.items) and callable(module.run) and callable(module.measure)


def test_two_files_may_not_claim_one_name(tmp_path: Path) -> None:
    head = '"""A task.\n\nname: same\nkind: understanding\nmeasures: m\nsource: s\nlicence: l\nneeds: n\n"""'
    (tmp_path / "a.py").write_text(head)
    (tmp_path / "b.py").write_text(head)
    with pytest.raises(RuntimeError, match="'same'"):
        tasks(tmp_path)
    (tmp_path / "b.py").write_text('"""No head."""')
    with pytest.raises(RuntimeError, match=r"b\.py: its docstring lacks name"):
        tasks(tmp_path)


@pytest.mark.parametrize(
    ("name", "metric", "chance"),
    [
        ("valse-existence", "accuracy", 0.5),
        ("negrefcocog", "accuracy", 1 / 3),
        ("celeba", "balanced-accuracy", 0.5),
        ("negbench-mcq", "accuracy", 0.25),
    ],
)
def test_a_constant_scorer_gets_chance(
    name: str, metric: str, chance: float, data: Path, tmp_path: Path, clip_folder: Path
) -> None:
    found = _run(name, data, tmp_path, _subject(clip_folder, projection=0.0)).arms["tiny"]
    assert found["ties"]["value"] == 1.0
    assert found[metric]["low"] - 0.02 < chance < found[metric]["high"] + 0.02


def test_a_constant_scorer_retrieves_no_more_than_chance(
    data: Path, tmp_path: Path, clip_folder: Path
) -> None:
    found = _run("retrieval", data, tmp_path, _subject(clip_folder, projection=0.0)).arms["tiny"]
    assert found["text-to-image-r@5"]["value"] < 0.08
    assert found["image-to-text-r@5"]["value"] < 0.08


@pytest.mark.parametrize("name", ["valse-existence", "negrefcocog", "celeba", "retrieval", "negbench-mcq"])
def test_a_scorer_of_nan_is_an_error(name: str, data: Path, tmp_path: Path, clip_folder: Path) -> None:
    with pytest.raises(RequestError, match=r"arm broken: the score of .* is not a finite number"):
        _run(name, data, tmp_path, _subject(clip_folder, "broken", projection=float("nan")))


def test_scores_are_those_of_the_plain_evaluator(data: Path, tmp_path: Path, clip_folder: Path) -> None:
    """One crop at a time, one text at a time, as the public code does."""
    result = _run("negrefcocog", data, tmp_path, _subject(clip_folder), limit=20)
    clip = load_clip(clip_folder)
    rows = json.loads((data / "negrefcocog.json").read_text())
    for number, record in result.records["tiny"].items():
        row = rows[int(number)]
        image = Image.open(data / "images" / row["image"]).convert("RGB")
        text = clip.encode_text([row["phrase"]])
        crops = [image.crop((x, y, x + w, y + h)) for x, y, w, h in row["bbox_list"]]
        scores = [float((clip.encode_image([crop]) @ text.T).item()) for crop in crops]
        assert record["scores"] == pytest.approx(scores, abs=1e-5)
        picked = row["bbox_list"][int(np.argmax(scores))]
        assert record["correct"] == (picked == row["ref_bbox"])


def test_what_a_picture_is_seen_as_does_not_hang_on_how_many_are_known(data: Path, clip_folder: Path) -> None:
    parts = [
        Part(path, box) for path in sorted((data / "images").iterdir())[:20] for box in (None, (4, 4, 10, 20))
    ]
    clip = load_clip(clip_folder)
    whole = Encoder("whole", clip).images(parts)
    for first, last in ((0, 1), (5, 8), (1, 18), (3, 40)):
        assert np.array_equal(Encoder("some", clip).images(parts[first:last]), whole[first:last])


def test_what_each_task_reports(data: Path, tmp_path: Path, clip_folder: Path) -> None:
    valse = _run("valse-existence", data, tmp_path, _subject(clip_folder)).arms["tiny"]
    assert (valse["accuracy"]["n"], valse["accuracy-agreed"]["n"]) == (N, N * 3 // 4)
    phrases = _run("negrefcocog", data, tmp_path, _subject(clip_folder)).arms["tiny"]
    assert phrases["accuracy-negated"]["n"] == phrases["accuracy-affirmative"]["n"] == N // 2
    pairs = _run("celeba", data, tmp_path, _subject(clip_folder))
    records = [r for r in pairs.records["tiny"].values() if r["attribute"] == "Eyeglasses"]
    assert sum(r["present"] for r in records) * 2 == len(records)
    # The one caption with a negation is left out, and its image with it.
    assert _run("retrieval", data, tmp_path, _subject(clip_folder)).n == N - 1


def _celeba(folder: Path, partition: bytes) -> Path:
    """CelebA's own folders; of four images, two have glasses."""
    names = [f"{i:06d}.png" for i in range(4)]
    for name in ("Anno", "Eval", "Img"):
        (folder / name).mkdir(parents=True)
    for name in names:
        Image.new("RGB", (8, 8)).save(folder / "Img" / name)
    rows = [f"{name} {1 if i % 2 else -1}" for i, name in enumerate(names)]
    (folder / "Anno" / "list_attr_celeba.txt").write_text("\n".join(["4", "Eyeglasses", *rows]))
    (folder / "Eval" / "list_eval_partition.txt").write_bytes(partition)
    return folder


def test_celebas_test_partition_is_found_in_its_own_layout(tmp_path: Path) -> None:
    celeba = load(task("celeba"))
    partition = b"000000.png 0\n000001.png 1\n000002.png 2\n000003.png 2\n"
    found = celeba.items(_celeba(tmp_path / "whole", partition), Options())
    assert {item.image.name for item in found} == {"000002.png", "000003.png"}
    with pytest.raises(RequestError, match=r"list_eval_partition\.txt: cannot be read as text"):
        celeba.items(_celeba(tmp_path / "broken", b"\xff\xfe"), Options())


def test_arms_are_paired_item_by_item(
    data: Path, tmp_path: Path, clip_folder: Path, other_clip_folder: Path
) -> None:
    result = _run(
        "valse-existence", data, tmp_path, _subject(clip_folder, "a"), _subject(other_clip_folder, "b")
    )
    first = np.array([r["correct"] for r in result.records["a"].values()], float)
    second = np.array([r["correct"] for r in result.records["b"].values()], float)
    pair = result.paired["a -> b"]["accuracy"]
    assert pair["difference"] == pytest.approx((second - first).mean(), abs=1e-6)
    assert (pair["only_first"], pair["only_second"]) == ((first > second).sum(), (second > first).sum())


def test_units_of_one_photograph_are_no_independent_ones(
    data: Path, tmp_path: Path, clip_folder: Path, other_clip_folder: Path
) -> None:
    subjects = _subject(clip_folder, "a"), _subject(other_clip_folder, "b")
    result = _run("celeba", data, tmp_path, *subjects)
    photographs = {item.image for item in result.items.values()}
    for row in (result.arms["a"]["balanced-accuracy"], result.paired["a -> b"]["balanced-accuracy"]):
        assert (row["n"], row["groups"]) == (result.n, len(photographs)) and len(photographs) < result.n
    assert f"{result.n} in {len(photographs)}" in write_report([_corrected(result)], {}, tmp_path).read_text()


def _corrected(result: TaskResult) -> TaskResult:
    correct([result])
    return result


def test_arms_that_share_no_unit_are_not_paired() -> None:
    values: dict[str, Values] = {"a": {"m": {"1": 1.0, "2": 0.0}}, "b": {"m": {"3": 1.0}, "n": {"3": 0.0}}}
    assert _pairs(values, dict.fromkeys("123")) == {"a -> b": {}}


def test_a_run_cut_off_in_the_middle_of_a_line_goes_on_to_the_same_result(
    data: Path, tmp_path: Path, clip_folder: Path
) -> None:
    for name in ("valse-existence", "retrieval"):
        whole = _run(name, data, tmp_path, _subject(clip_folder))
        journal = whole.files["tiny"]
        content = journal.read_bytes()
        journal.write_bytes(content[: len(content) // 2])
        again = _run(name, data, tmp_path, _subject(clip_folder))
        assert again.as_json() == whole.as_json()
        assert again.records == whole.records


def test_nothing_is_scored_twice(data: Path, tmp_path: Path, clip_folder: Path) -> None:
    few = _run("valse-existence", data, tmp_path, _subject(clip_folder), limit=50)
    content = few.files["tiny"].read_bytes()
    all_of_them = _run("valse-existence", data, tmp_path, _subject(clip_folder))
    assert all_of_them.files["tiny"].read_bytes().startswith(content)

    def make(_: str) -> Encoder:
        raise AssertionError("every record is there, so no model is needed")

    _run("valse-existence", data, tmp_path, Subject("tiny", {"projection": None}, make))


def test_a_changed_item_is_scored_anew(data: Path, tmp_path: Path, clip_folder: Path) -> None:
    folder = tmp_path / "data"
    (folder / "images").mkdir(parents=True)
    (folder / "images" / "000000.png").write_bytes((data / "images" / "000000.png").read_bytes())

    def scores(caption: str) -> list[float]:
        row = {"image_file": "000000.png", "caption": caption, "foil": "there are dogs"}
        (folder / "existence.json").write_text(json.dumps({"only": row}))
        record: Record = _run("valse-existence", folder, tmp_path / "out", _subject(clip_folder)).records[
            "tiny"
        ]["only"]
        return list(record["scores"])

    first = scores("there are no dogs")
    assert first != scores("a street with a bus")
    # Another picture under the same name.
    (folder / "images" / "000000.png").write_bytes((data / "images" / "000001.png").read_bytes())
    assert first != scores("there are no dogs")


def test_a_caption_that_changed_is_ranked_against_all_images_anew(
    data: Path, tmp_path: Path, clip_folder: Path
) -> None:
    folder = tmp_path / "data"
    folder.mkdir()
    for image in (data / "images").iterdir():
        (folder / image.name).symlink_to(image)
    document = json.loads((data / "captions_val.json").read_text())

    def ranks(out: str) -> list[Record]:
        (folder / "captions_val.json").write_text(json.dumps(document))
        result = _run("retrieval", folder, tmp_path / out, _subject(clip_folder), limit=20)
        return list(result.records["tiny"].values())

    first = ranks("out")[0]["id"]
    for annotation in document["annotations"]:
        if str(annotation["image_id"]) == first:
            annotation["caption"] = "a bus by a lake"
    assert ranks("out") == ranks("fresh")


@pytest.mark.parametrize(
    ("name", "file", "content", "message"),
    [
        ("valse-existence", "existence.json", "[1, 2]", "not VALSE's form"),
        ("valse-existence", "existence.json", "{", "cannot be read as JSON"),
        ("negrefcocog", "negrefcocog.json", '[{"image": "a.png"}]', "not a list of image, phrase"),
        ("retrieval", "captions_val.json", "{}", "not COCO captions"),
        ("celeba", "list_attr_celeba.txt", "3\nEyeglasses\na.png 1", "not CelebA's form"),
        ("valse-existence", "other.json", "{}", "no file called existence.json"),
        ("negbench-mcq", "a_mcq.csv", "caption_0\nx", "not NegBench's form"),
    ],
)
def test_malformed_data_are_one_clear_line(
    name: str, file: str, content: str, message: str, tmp_path: Path
) -> None:
    (tmp_path / file).write_text(content)
    with pytest.raises(RequestError, match=message) as error:
        load(task(name)).items(tmp_path, Options())
    assert "\n" not in str(error.value)


def test_missing_images_and_folders_are_named(data: Path, tmp_path: Path) -> None:
    (tmp_path / "existence.json").write_bytes((data / "existence.json").read_bytes())
    with pytest.raises(RequestError, match=r"image 000000\.png is not there"):
        load(task("valse-existence")).items(tmp_path, Options())
    with pytest.raises(RequestError, match="no such data folder"):
        load(task("valse-existence")).items(tmp_path / "absent", Options())
