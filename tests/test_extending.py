"""docs/extending.md: each file and row that it shows is put into its place, found there, and works."""

import json
import re
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from pipelines import cli

PAGE = Path(__file__).parent.parent / "docs" / "extending.md"
LANGUAGES = {"python", "json"}


def shown(beginning: str) -> str:
    """The block of the page that begins so."""
    found = re.findall(r"^```(\w+)\n(.*?)^```$", PAGE.read_text("utf-8"), re.M | re.S)
    (text,) = [text for language, text in found if language in LANGUAGES and text.startswith(beginning)]
    return str(text)


@pytest.fixture
def add(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A function that writes a file of the page where its package will find it, and returns its folder."""

    def put(path: str) -> Path:
        package = ".".join(Path(path).parent.parts)
        folder = tmp_path / package
        folder.mkdir()
        (folder / Path(path).name).write_text(shown(f"# {path}\n"), "utf-8")
        module = import_module(package)
        monkeypatch.setattr(module, "__path__", [*module.__path__, str(folder)])
        monkeypatch.delitem(sys.modules, f"{package}.{Path(path).stem}", raising=False)
        return folder

    return put


def test_a_task(add: Any, clip_folder: Path, other_clip_folder: Path, tmp_path: Path) -> None:
    from eval.encoders import Encoder
    from eval.options import Options
    from eval.registry import tasks
    from eval.runner import Subject, run_task
    from negclip_core.clip import load_clip

    info = tasks(add("eval/tasks/plain_choice.py"))["plain-choice"]
    data = tmp_path / "data"
    data.mkdir()
    rows = []
    for number in range(6):
        Image.new("RGB", (16, 16), (40 * number, 0, 90)).save(data / f"{number}.png")
        rows.append({"id": str(number), "image": f"{number}.png", "true": "a park", "false": "no park"})
    (data / "pairs.json").write_text(json.dumps(rows))
    clips = {"vanilla": load_clip(clip_folder), "other": load_clip(other_clip_folder)}

    def subject(name: str) -> Subject:
        return Subject(name, {}, lambda _: Encoder(name, clips[name]))

    subjects = [subject(name) for name in clips]
    result = run_task(info, subjects, data, tmp_path / "out", Options(), quiet=True)
    assert result.n == 6 and result.chance == {"accuracy": 0.5}
    assert set(result.arms) == {"vanilla", "other"} and "accuracy" in result.paired["vanilla -> other"]


def test_a_method(add: Any, pipeline_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from integrations.methods import method_names
    from pipelines.generate import Request, run

    add("integrations/methods/rest.py")
    method_names.cache_clear()
    try:
        assert "rest" in method_names()
        asked: dict[str, Any] = {"model": str(pipeline_folder), "steps": 2, "quiet": True, "device": "cpu"}
        rest = run(Request(("a street with no cars",), method="rest", out=tmp_path / "rest", **asked))
        plain = run(Request(("a street",), method="vsf", out=tmp_path / "plain", **asked))
        pictures = [np.asarray(Image.open(result["images"][0]["path"])) for result in (rest, plain)]
        assert np.array_equal(pictures[0], pictures[1]), "the host reads the rest, and nothing else is done"
    finally:
        method_names.cache_clear()


def test_a_slot(clip_folder: Path, other_clip_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from diffusers import DiffusionPipeline
    from transformers import CLIPTokenizer

    from integrations import stable_diffusion
    from integrations.gate import GatedTextEncoder
    from negclip_core.clip import load_clip
    from negclip_core.errors import RequestError

    class YourPipeline(DiffusionPipeline):
        def __init__(self, text_encoder: Any, tokenizer: Any) -> None:
            super().__init__()
            self.register_modules(text_encoder=text_encoder, tokenizer=tokenizer)

    own = load_clip(clip_folder).text_encoder()
    pipe: Any = YourPipeline(own, CLIPTokenizer.from_pretrained(clip_folder))
    with pytest.raises(RequestError, match="YourPipeline: no slot for a text encoder is known"):
        stable_diffusion.slots_of(pipe)
    rows = [*stable_diffusion._hosts(), json.loads(shown('{\n  "host"'))]
    monkeypatch.setattr(stable_diffusion, "_hosts", lambda: rows)
    with stable_diffusion.swap_text_encoder(pipe, load_clip(other_clip_folder)):
        assert isinstance(pipe.text_encoder, GatedTextEncoder)
    assert pipe.text_encoder is own


def test_a_host(add: Any, clip_folder: Path, other_clip_folder: Path, wide_clip_folder: Path) -> None:
    from types import SimpleNamespace

    import torch
    from transformers import CLIPTokenizer

    from negclip_core.clip import load_clip
    from negclip_core.errors import RequestError

    add("integrations/reader.py")
    reader = import_module("integrations.reader")
    own, other = load_clip(clip_folder), load_clip(other_clip_folder)
    tokenizer = CLIPTokenizer.from_pretrained(clip_folder)
    host = SimpleNamespace(text_encoder=own.text_encoder(), tokenizer=tokenizer)
    vanilla, new = host.text_encoder, other.text_encoder()
    with pytest.raises(RequestError, match="width 64 expected, 96 given"):
        reader.swap_text_encoder(host, load_clip(wide_clip_folder))
    with reader.swap_text_encoder(host, other), torch.no_grad():
        for text, expected in (("a street with no cars", new), ("a street", vanilla)):
            ids = tokenizer(text, padding="max_length", return_tensors="pt").input_ids
            assert torch.equal(host.text_encoder(ids).last_hidden_state, expected(ids).last_hidden_state)
    assert host.text_encoder is vanilla


def test_a_judge(add: Any, pipeline_folder: Path, tmp_path: Path) -> None:
    from diffusers import StableDiffusionPipeline

    from eval.generation import Painter
    from eval.options import Options
    from eval.registry import task
    from eval.runner import Subject, run_task
    from integrations.arms import Arm

    add("eval/judges/brightness.py")
    judge = import_module("eval.judges.brightness").BrightnessJudge()
    dark, bright = np.zeros((4, 4, 3), np.uint8), np.full((4, 4, 3), 255, np.uint8)
    assert judge.answers(np.stack([dark, bright]), [["car"], ["car", "dog"]]) == [
        {"car": False}, {"car": True, "dog": True},
    ]  # fmt: skip
    pipe = StableDiffusionPipeline.from_pretrained(pipeline_folder)
    pipe.set_progress_bar_config(disable=True)
    row = {"id": "a", "prompt": "a street with no cars", "family": "before", "negated": ["car"], "asked": [],
           "place": "street", "affirmative": "a street", "split": "test"}  # fmt: skip
    (tmp_path / "prompts.json").write_text(json.dumps([row]))

    def make(key: str) -> Painter:
        return Painter("vanilla", Arm.vanilla(), pipe, "tiny", judge, tmp_path / "out", f"images/{key}")

    result = run_task(task("t2i-negation"), [Subject("vanilla", {}, make)], tmp_path, tmp_path / "out",
                      Options(steps=2, batch=1), quiet=True)  # fmt: skip
    assert result.n == 1 and result.judges["questions"] >= 1


def test_an_objective_and_its_recipe(
    add: Any, clip_folder: Path, corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    add("negclip_core/training/objectives/apart.py")
    recipe = tmp_path / "apart.json"
    recipe.write_text(shown('{\n  "about"'))
    monkeypatch.setattr(sys, "argv", [
        "negclip", "train", "--captions", str(corpus / "captions.json"), "--images", str(corpus), "--clip",
        str(clip_folder), "--objective", str(recipe), "--out", str(tmp_path / "out"), "--quiet",
    ])  # fmt: skip
    assert cli._main([]) == 0
    assert (tmp_path / "out" / "open_clip_model.safetensors").is_file()
