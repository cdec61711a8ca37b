"""Judges of pictures: models that answer questions, detectors, endpoints; tiny, with the true architectures."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from tiny_judges import make_blip, make_chat, make_grounding_dino, make_owl  # type: ignore[import-not-found]

from eval.judges import load_judge
from eval.judges.blip import BlipJudge
from eval.judges.detector import DetectorJudge
from eval.judges.questions import question, read_answer
from negclip_core.errors import RequestError
from pipelines.miniature import export

ROOT = Path(__file__).parents[1]
PICTURES = np.random.default_rng(0).integers(0, 256, (3, 64, 64, 3), dtype=np.uint8)
ASKED = (("car", "dog"), (), ("man with hat", "glasses", "car"))


def test_questions_are_plain_and_answers_are_not_guessed() -> None:
    assert question("car") == "Is there a car in the picture?"
    assert question("umbrella") == "Is there an umbrella in the picture?"
    assert question("bus") == "Is there a bus in the picture?"
    assert question("man with hat") == "Is there a man with a hat in the picture?"
    assert question("man with glasses") == "Is there a man with glasses in the picture?"
    assert question("glasses") == "Are there glasses in the picture?"
    assert [read_answer(text) for text in ("yes", " No.", "**Yes**, two", "NO")] == [True, False, True, False]
    assert [read_answer(text) for text in ("", "maybe", "nobody", "I say yes", "yesterday")] == [None] * 5


@pytest.mark.parametrize("make", [make_blip, make_chat])
@pytest.mark.parametrize(("word", "answer"), [("yes", True), ("no", False), ("maybe", None)])
def test_what_a_model_says_is_its_answer(
    make: Callable[[Path, str], Path], word: str, answer: bool | None, tmp_path: Path
) -> None:
    judge = load_judge(f"vqa:{make(tmp_path / 'model', word)}")
    assert judge.answers(PICTURES, ASKED) == [dict.fromkeys(labels, answer) for labels in ASKED]
    assert judge.labels == () and len(judge.version) == 64


def test_questions_are_asked_in_batches_each_of_its_own_picture(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    judge = BlipJudge.load(str(make_blip(tmp_path / "model", "")), "cpu")
    seen = []
    model = judge.model.generate

    def generate(**inputs: torch.Tensor) -> torch.Tensor:
        seen.append(inputs["pixel_values"])
        return model(**inputs)

    monkeypatch.setattr(judge.model, "generate", generate)
    judge.answers(PICTURES, [("car",)] * 3)
    (batch,) = seen
    for row, picture in zip(batch, PICTURES, strict=True):
        alone = judge.processor(images=[picture], text=["a"], return_tensors="pt")["pixel_values"][0]
        assert torch.equal(row, alone)
    judge.answers(PICTURES[[0] * 40], [("car", "dog")] * 40)
    assert [len(batch) for batch in seen[1:]] == [32, 32, 16]


@pytest.mark.parametrize("make", [make_owl, make_grounding_dino])
def test_a_thing_is_there_where_the_library_finds_a_box_of_it(
    make: Callable[[Path], Path], tmp_path: Path
) -> None:
    judge = DetectorJudge.load(str(make(tmp_path / "model")), "cpu")
    verdicts = set()
    for threshold in np.linspace(0.02, 0.98, 25):
        judge.threshold = float(threshold)
        for labels, picture, said in zip(ASKED, PICTURES, judge.answers(PICTURES, ASKED), strict=True):
            assert list(said) == list(labels)
            for label, answer in said.items():
                assert answer == (_boxes(judge, picture, label) > 0)
                verdicts.add(answer)
    assert verdicts == {True, False}


def _boxes(judge: DetectorJudge, picture: np.ndarray, label: str) -> int:
    """How many the library keeps of a picture and a text by themselves."""
    text = judge.text.format(
        {"man with hat": "a man with a hat", "glasses": "glasses"}.get(label, f"a {label}")
    )
    inputs = judge.processor(images=[picture], text=[text], return_tensors="pt")
    with torch.inference_mode():
        outputs = judge.model(**inputs)
    tokens = {} if judge.text != "{}." else {"input_ids": inputs["input_ids"], "text_threshold": 0.0}
    found = judge.processor.post_process_grounded_object_detection(
        outputs, threshold=judge.threshold, target_sizes=[(64, 64)], **tokens
    )
    return len(found[0]["scores"])


def test_an_endpoint_sees_the_pictures(serve: Callable[..., str], tmp_path: Path) -> None:
    files = export.run(tmp_path, 8, 3, "train")["files"]
    document = json.loads(Path(files["instances"]).read_text("utf-8"))
    names = {entry["id"]: entry["name"] for entry in document["categories"]}
    shown: dict[int, set[str]] = {image["id"]: set() for image in document["images"]}
    for entry in document["annotations"]:
        shown[entry["image_id"]].add(names[entry["category_id"]])
    pictures = np.stack(
        [np.asarray(Image.open(tmp_path / "images" / i["file_name"])) for i in document["images"]]
    )
    kinds = ("car", "tree", "umbrella", "dog")
    judge = load_judge(f"vqa:{serve('--instances', files['instances'], '--images', tmp_path / 'images')}")
    truth = [{kind: kind in things for kind in kinds} for things in shown.values()]
    assert judge.answers(pictures, [kinds] * len(pictures)) == truth
    assert judge.version == "fake"


def test_an_endpoint_that_is_unsure_or_malformed_leaves_the_question_open(
    serve: Callable[..., str],
) -> None:
    pictures = np.random.default_rng(1).integers(0, 256, (40, 16, 16, 3), dtype=np.uint8)
    judge = load_judge(f"vqa:{serve('--faults', 0.3, '--kinds', 'message,refusal')}")
    said = [answer for row in judge.answers(pictures, [("car",)] * 40) for answer in row.values()]
    assert len(said) == 40 and set(said) == {True, False, None}


def test_what_is_no_judge_is_refused_in_one_line(tmp_path: Path, serve: Callable[..., str]) -> None:
    blip = make_blip(tmp_path / "blip", "yes")
    silent = make_chat(tmp_path / "silent", "yes", template=False)
    cases = {
        "psychic:x": r"expected vqa:MODEL",
        f"vqa:{tmp_path / 'nothing'}": r"no model called",
        f"vqa:{tmp_path}": r"a folder with config.json",
        f"detector:{blip}": r"cannot be loaded as an open-vocabulary detector",
        f"vqa:{silent}": r"no chat template",
        "vqa:http://127.0.0.1:9/v1": r"cannot be reached",
        f"vqa:{serve('--status', 401)}#x": r"answered 401",
    }
    for source, why in cases.items():
        with pytest.raises(RequestError, match=why) as error:
            load_judge(source).answers(PICTURES, ASKED)
        assert "\n" not in str(error.value)
    (blip / "model.safetensors").rename(blip / "pytorch_model.bin")
    with pytest.raises(RequestError, match=r"expected weights as .safetensors"):
        load_judge(f"vqa:{blip}")


def test_weights_that_are_missing_are_not_made_up(tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    file = make_blip(tmp_path / "blip", "yes") / "model.safetensors"
    weights = load_file(file)
    save_file({k: v for k, v in weights.items() if "text_encoder" not in k}, file, {"format": "pt"})
    with pytest.raises(RequestError, match=r"of its weights are missing"):
        load_judge(f"vqa:{file.parent}")
