"""The node for ComfyUI, loaded as ComfyUI loads it, on a stand-in of its interface with real text encoders inside."""

import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from comfyui import StandInClip, install  # type: ignore[import-not-found]  # pytest puts tests/ on the path

from negclip_core.clip import Clip, load_clip
from pipelines.convert import run as convert

NODE = Path(__file__).parent.parent / "integrations" / "comfyui"
NEGATED, PLAIN = "a street with no cars", "a street with a car"


def load_node(folder: Path) -> Any:
    """Import a custom node's folder by its path, as ComfyUI's nodes.py does."""
    spec = importlib.util.spec_from_file_location("custom_node_negclip", folder / "__init__.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def wrapped(clip: Clip, name: str = "clip_l") -> Any:
    """A CLIP of ours as ComfyUI's."""
    from transformers import CLIPTokenizer

    tokenizer = CLIPTokenizer.from_pretrained(clip.checkpoint.tokenizer_folder)
    return StandInClip(clip.text_encoder(True), tokenizer, name)


@pytest.fixture
def own(clip_folder: Path) -> Any:
    """The checkpoint's CLIP."""
    return wrapped(load_clip(clip_folder))


@pytest.fixture
def other(other_clip_folder: Path) -> Any:
    """The CLIP whose text encoder is swapped in, by itself."""
    return wrapped(load_clip(other_clip_folder))


@pytest.fixture
def loaded(
    tmp_path: Path, other_clip_folder: Path, wide_clip_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> list[list[str]]:
    """ComfyUI with two text encoders in models/text_encoders; the files that were loaded."""
    for name, source in {
        "negation.safetensors": other_clip_folder,
        "wide.safetensors": wide_clip_folder,
    }.items():
        convert(str(source), tmp_path / "text_encoders" / name, "comfyui")

    def make(weights: dict[str, torch.Tensor]) -> Any:
        wide = weights["text_model.final_layer_norm.weight"].shape[0] != 64
        found = wrapped(load_clip(wide_clip_folder if wide else other_clip_folder))
        found._text_model.load_state_dict(
            {name.removeprefix("text_model.") if name not in found._text_model.state_dict() else name: tensor
             for name, tensor in weights.items()}
        )  # fmt: skip
        return found

    return install(monkeypatch, tmp_path, make)


@pytest.fixture
def node(loaded: list[list[str]]) -> Any:
    return load_node(NODE).NODE_CLASS_MAPPINGS["NegationTextEncode"]()


def reads(clip: Any, text: str) -> Any:
    """What ComfyUI's own CLIP Text Encode gives."""
    return clip.encode_from_tokens_scheduled(clip.tokenize(text))


def same(a: Any, b: Any) -> bool:
    return torch.equal(a[0][0], b[0][0]) and torch.equal(a[0][1]["pooled_output"], b[0][1]["pooled_output"])


def test_a_negation_is_read_by_the_file_and_all_else_by_the_checkpoint(
    node: Any, own: Any, other: Any, loaded: list[list[str]]
) -> None:
    (plain,) = node.encode(own, "negation.safetensors", PLAIN)
    assert same(plain, reads(own, PLAIN)) and not loaded, "nothing is loaded for a prompt without negation"
    (negated,) = node.encode(own, "negation.safetensors", NEGATED)
    assert same(negated, reads(other, NEGATED))
    assert not same(negated, reads(own, NEGATED))
    node.encode(own, "negation.safetensors", "a park without trees")
    assert len(loaded) == 1, "the file is read once"


def test_without_the_gate_it_reads_every_prompt(node: Any, own: Any, other: Any) -> None:
    (plain,) = node.encode(own, "negation.safetensors", PLAIN, gate=False)
    assert same(plain, reads(other, PLAIN))


def test_the_checkpoints_clip_is_left_as_it_is(node: Any, own: Any) -> None:
    before = reads(own, NEGATED)
    node.encode(own, "negation.safetensors", NEGATED)
    assert same(before, reads(own, NEGATED)) and not own.patches


@pytest.mark.parametrize(
    ("prompt", "expected"),
    [("a street with (no cars:1.2)", True), ("(a street:0.8) [without] trees", True), ("a (car:1.3), street", False),
     ("", False), ("a \\(blue\\) street", False)],
)  # fmt: skip
def test_weights_are_no_part_of_the_sentence(node: Any, prompt: str, expected: bool) -> None:
    assert load_node(NODE).negates(prompt) is expected


def test_another_size_and_another_slot_are_refused(node: Any, own: Any, clip_folder: Path) -> None:
    with pytest.raises(
        ValueError, match=r"wide.safetensors: does not fit this checkpoint's CLIP: clip_l\.\S+ is"
    ):
        node.encode(own, "wide.safetensors", NEGATED)
    with pytest.raises(ValueError, match=r"expected none; choose the text encoder of its CLIP"):
        node.encode(wrapped(load_clip(clip_folder), "clip_g"), "negation.safetensors", NEGATED)
    with pytest.raises(ValueError, match="there is no CLIP"):
        node.encode(None, "negation.safetensors", NEGATED)


def test_the_folder_says_what_comfyui_asks_of_a_node(node: Any) -> None:
    module = load_node(NODE)
    assert module.NODE_CLASS_MAPPINGS.keys() == module.NODE_DISPLAY_NAME_MAPPINGS.keys()
    inputs = node.INPUT_TYPES()
    assert list(inputs["required"]) == ["clip", "text_encoder", "text"]
    assert inputs["required"]["text_encoder"] == (["negation.safetensors", "wide.safetensors"],)
    assert node.RETURN_TYPES == ("CONDITIONING",) and callable(getattr(node, node.FUNCTION))


def test_the_gate_needs_no_package_but_negclips_own() -> None:
    code = (
        "import sys; sys.modules.update(dict.fromkeys(['numpy', 'torch', 'transformers', 'open_clip', 'diffusers']))\n"
        "from integrations.comfyui import NODE_CLASS_MAPPINGS, negates\n"
        "assert NODE_CLASS_MAPPINGS and negates('a street with no cars') and not negates('a street')"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_copy_of_the_folder_without_negclip_says_one_line(tmp_path: Path) -> None:
    shutil.copytree(NODE, tmp_path / "negclip")
    code = (
        "import sys; sys.modules['negclip_core'] = None\n"
        f"sys.path.insert(0, {str(tmp_path)!r})\n"
        "import negclip; assert negclip.NODE_CLASS_MAPPINGS == {}"
    )
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True,
                          cwd=tmp_path, env=environment)  # fmt: skip
    assert done.stderr.startswith("negclip: not installed in ComfyUI's Python")
    assert done.stderr.count("\n") == 1
