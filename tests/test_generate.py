"""`negclip generate`: pairs on disk with what made them, and bad requests refused before anything is written."""

import json
import re
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from negclip_core.errors import RequestError
from pipelines.contact_sheet import Row, contact_sheet
from pipelines.generate import Request, run
from pipelines.pictures import file_stems
from pipelines.prompts import check_length, unknown_words

NEGATED, PLAIN = "a street with no cars", "a street with a car"


@pytest.fixture
def request_(pipeline_folder: Path, other_clip_folder: Path, tmp_path: Path) -> Request:
    return Request(
        (NEGATED, PLAIN),
        model=str(pipeline_folder),
        text_encoder=str(other_clip_folder),
        compare=True,
        count=2,
        steps=2,
        out=tmp_path / "out",
        seed=5,
        device="cpu",
        quiet=True,
    )


def pixels(path: str) -> np.ndarray:
    return np.asarray(Image.open(path))


def test_pairs_are_drawn_and_recorded(request_: Request) -> None:
    result = run(request_)
    assert (result["model"], result["text_encoder"]) == (request_.model, request_.text_encoder)
    drawn = {(i["prompt"], i["seed"], i["arm"]): i["path"] for i in result["images"]}
    assert len(drawn) == len(result["images"]) == 8
    for seed in (5, 6):
        assert not np.array_equal(
            pixels(drawn[NEGATED, seed, "vanilla"]), pixels(drawn[NEGATED, seed, "negationclip"])
        )
        assert np.array_equal(
            pixels(drawn[PLAIN, seed, "vanilla"]), pixels(drawn[PLAIN, seed, "negationclip"])
        )
    path = drawn[NEGATED, 5, "negationclip"]
    assert Path(path).name == "a-street-with-no-cars-seed5-negationclip.png"
    text = Image.open(path).text  # type: ignore[attr-defined]
    assert (text["prompt"], text["seed"], text["arm"], text["model"]) == (
        NEGATED,
        "5",
        "negationclip",
        request_.model,
    )
    record = json.loads(text["negclip"])
    assert (record["steps"], record["guidance_scale"], record["gate"]) == (2, 7.5, True)
    assert re.fullmatch("[0-9a-f]{64}", record["model_sha256"])
    assert re.fullmatch("[0-9a-f]{64}", record["text_encoder_sha256"])
    assert Image.open(result["contact_sheet"]).width > 2 * 256
    assert {p.suffix for p in request_.out.iterdir()} == {".png"}


def test_the_same_request_gives_the_same_bytes(request_: Request, tmp_path: Path) -> None:
    once = {p.name: p.read_bytes() for p in _folder(run(replace(request_, count=1)), request_.out)}
    elsewhere = tmp_path / "again"
    again = {p.name: p.read_bytes() for p in _folder(run(replace(request_, out=elsewhere)), elsewhere)}
    assert {name: again[name] for name in once if "seed5" in name} == {
        n: b for n, b in once.items() if "seed5" in n
    }


def _folder(result: dict[str, object], out: Path) -> list[Path]:
    assert result["images"]
    return sorted(out.iterdir())


def test_the_models_own_settings_are_the_defaults(
    request_: Request, pipeline_folder: Path, tmp_path: Path
) -> None:
    model = tmp_path / "model"
    model.mkdir()
    for part in pipeline_folder.iterdir():
        (model / part.name).symlink_to(part)
    about = {
        "steps": 1,
        "guidance_scale": 3.0,
        "vocabulary": ["a", "street", "with", "no"],
        "knows": "streets",
    }
    (model / "negclip.json").write_text(json.dumps(about))
    small = replace(request_, model=str(model), prompts=("a street with no dragons",), steps=None, count=1)
    result = run(small)
    record = json.loads(Image.open(result["images"][0]["path"]).text["negclip"])  # type: ignore[attr-defined]
    assert (record["steps"], record["guidance_scale"]) == (1, 3.0)


def test_unknown_words_get_a_friendly_warning(
    request_: Request, pipeline_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = tmp_path / "model"
    model.mkdir()
    for part in pipeline_folder.iterdir():
        (model / part.name).symlink_to(part)
    about = {
        "name": "the miniature",
        "vocabulary": ["a", "street", "with", "no"],
        "knows": "streets and parks",
    }
    (model / "negclip.json").write_text(json.dumps(about))
    run(replace(request_, model=str(model), prompts=("a street with no dragons",), count=1, quiet=False))
    assert "the miniature knows streets and parks; it has never seen dragons" in capsys.readouterr().err


@pytest.mark.parametrize("method", ["negative-prompt", "both", "nag", "perp-neg", "vsf"])
def test_other_methods_are_arms_of_their_own(request_: Request, method: str) -> None:
    encoder = request_.text_encoder if method == "both" else None
    result = run(replace(request_, method=method, text_encoder=encoder, count=1, prompts=(NEGATED,)))
    assert [i["arm"] for i in result["images"]] == ["vanilla", method]
    assert result["text_encoder"] == encoder
    first, second = (pixels(i["path"]) for i in result["images"])
    assert not np.array_equal(first, second)


@pytest.mark.parametrize(("method", "warned"), [("perp-neg", True), ("nag", False)])
def test_a_method_that_needs_guidance_says_so_without(
    request_: Request, method: str, warned: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    bare = replace(request_, method=method, text_encoder=None, guidance_scale=1.0, count=1, quiet=False)
    run(replace(bare, prompts=(NEGATED,)))
    assert (f"--method {method} does nothing here: it needs" in capsys.readouterr().err) == warned


def test_a_lora_without_peft_is_one_line(request_: Request, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "peft", None)
    with pytest.raises(RequestError, match=re.escape("some/lora: needs PEFT; pip install 'negclip[lora]'")):
        run(replace(request_, lora="some/lora"))
    assert not request_.out.exists()


LONG = "a street with " + "a car and " * 30


@pytest.mark.parametrize(
    ("change", "line"),
    [
        ({"prompts": ("",)}, "the prompt is empty"),
        ({"prompts": (PLAIN, " \n")}, "the prompt is empty"),
        ({"prompts": ()}, "no prompt"),
        ({"prompts": (LONG + "no dog",)}, r"and the negation 'no' is in what would be cut \("),
        ({"seed": -1}, "--seed -1: expected"),
        ({"count": 0}, "-n 0: expected 1"),
        ({"count": -3}, "-n -3: expected 1"),
        ({"steps": 0}, "--steps 0: expected 1"),
        ({"guidance_scale": float("nan")}, "--guidance-scale nan: expected"),
        ({"height": 31}, "--height 31: expected a multiple of 2"),
        ({"width": -8}, "--width -8: expected a multiple"),
        ({"model": "nonesuch"}, "no model called 'nonesuch'"),
        ({"text_encoder": "nonesuch"}, "no model called 'nonesuch'"),
        ({"method": "nonesuch"}, "no method called 'nonesuch'"),
        ({"method": "negative-prompt"}, "swaps no text encoder: leave --text-encoder out"),
        ({"device": "tpu"}, "--device tpu: expected auto, cpu, cuda or cuda:N"),
        ({"device": "cuda:99"}, "--device cuda:99: this machine has"),
        ({"text_encoder": None}, "no NegationCLIP is known for its text encoder"),
    ],
)
def test_bad_requests_write_nothing(request_: Request, change: dict[str, object], line: str) -> None:
    with pytest.raises(RequestError, match=line) as caught:
        run(replace(request_, **change))  # type: ignore[arg-type]
    assert "\n" not in str(caught.value)
    assert not request_.out.exists()


def test_an_encoder_that_does_not_fit_writes_nothing(request_: Request, wide_clip_folder: Path) -> None:
    with pytest.raises(RequestError, match="width 64 expected, 96 given"):
        run(replace(request_, text_encoder=str(wide_clip_folder)))
    assert not request_.out.exists()


def test_an_output_folder_that_cannot_be_written_is_refused(request_: Request, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    for out in (tmp_path / "file", tmp_path / "file" / "below", Path("/proc/negclip")):
        with pytest.raises(RequestError, match="choose another output folder"):
            run(replace(request_, out=out))


def test_what_is_not_a_pipeline_is_refused(request_: Request, clip_folder: Path) -> None:
    with pytest.raises(
        RequestError, match=r"expected a diffusers pipeline \(a folder with model_index\.json\)"
    ):
        run(replace(request_, model=str(clip_folder)))


def test_a_long_prompt_is_cut_aloud_but_never_its_negation(pipeline_folder: Path) -> None:
    from transformers import CLIPTokenizer

    tokenizer = CLIPTokenizer.from_pretrained(pipeline_folder / "tokenizer")
    assert check_length(NEGATED, tokenizer) is None
    cut = check_length(f"{NEGATED} and {LONG}", tokenizer)
    assert cut is not None
    assert f"{NEGATED} and {LONG}".strip().endswith(cut)
    # 75 words are read; the negation begins before the cut and what it negates lies behind it.
    with pytest.raises(RequestError, match="would be cut"):
        check_length("car " * 74 + "no car", tokenizer)
    assert check_length("car " * 73 + "no car", tokenizer) is None


def test_file_names_are_short_distinct_and_plain() -> None:
    prompts = [
        "A street, no cars!",
        "a street no cars",
        "街道没有车",
        "../../etc/passwd",
        "x " * 100,
        "x " * 101,
    ]
    stems = file_stems(prompts)
    assert stems[0] == "a-street-no-cars"
    assert len(set(stems)) == len(prompts)
    assert all(re.fullmatch(r"[a-z0-9-]{1,60}", stem) for stem in stems)


def test_unknown_words_are_named_once_in_order() -> None:
    assert unknown_words("A Street isn't a dragon, dragon or 2 unicorns", ["a", "street", "isn't", "or"]) == [
        "dragon",
        "unicorns",
    ]


def test_the_contact_sheet_shows_every_pixel_enlarged() -> None:
    picture = Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8))
    sheet = np.asarray(
        contact_sheet([Row(NEGATED, "seed 0", [picture, picture])], ["vanilla", "negationclip"])
    )
    enlarged = np.asarray(picture).repeat(4, 0).repeat(4, 1)
    found = [
        (y, x)
        for y in range(sheet.shape[0] - 255)
        for x in (28, 28 + 256 + 14)
        if np.array_equal(sheet[y, x : x + 256], enlarged[0])
        and np.array_equal(sheet[y : y + 256, x : x + 256], enlarged)
    ]
    assert [x for _, x in found] == [28, 298]
