"""Files for ComfyUI, A1111 and InvokeAI have the names, kinds and dtypes that these ask for.

What they ask for is in `text_encoders_of_tools.json`, taken from their sources: ComfyUI's `detect_te_model` and
`load_text_encoder_state_dicts` (comfy/sd.py of comfyanonymous/ComfyUI); A1111's `transform_checkpoint_dict_key` and the names in
Stable Diffusion's checkpoints (modules/sd_models.py of AUTOMATIC1111/stable-diffusion-webui), where a name that is not
known is passed over in silence; InvokeAI's `CLIPEmbed_Diffusers_Config_Base` (backend/model_manager/configs/clip_embed.py) and
`CLIPDiffusersLoader` (.../load/model_loaders/flux.py of invoke-ai/InvokeAI). None of the tools runs here.
"""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import write_tiny_clip  # type: ignore[import-not-found]  # pytest puts tests/ on the path
from documents import ROOT, blocks  # type: ignore[import-not-found]
from safetensors.torch import load_file, save_file

from negclip_core.checkpoints import read_checkpoint
from negclip_core.clip import load_clip
from negclip_core.convert import write_checkpoint
from pipelines.convert import run

ASKED: dict[str, Any] = json.loads(Path(__file__).with_name("text_encoders_of_tools.json").read_text("utf-8"))
TOWER = ASKED["text_tower"]
NAMES = {
    *TOWER["once"],
    *(
        f"text_model.encoder.layers.{n}.{name}"
        for n in range(TOWER["layers"])
        for name in TOWER["each_layer"]
    ),
}


@pytest.fixture(scope="module")
def clip_l(tmp_path_factory: pytest.TempPathFactory, tokenizer_folder: Path) -> Path:
    """A CLIP with the twelve blocks of ViT-L/14's text tower, as open_clip keeps it."""
    return Path(write_tiny_clip(tmp_path_factory.mktemp("clip_l"), tokenizer_folder, seed=7, layers=12))


def test_comfyui_knows_it_for_what_it_is(clip_l: Path, tmp_path: Path) -> None:
    asked = ASKED["comfyui"]
    run(str(clip_l), tmp_path / "clip_l.safetensors", "comfyui")
    weights = load_file(tmp_path / "clip_l.safetensors")
    assert weights.keys() == {*NAMES, asked["projection"]}
    assert asked["converted_before"] not in weights, "it would be taken for OpenAI's layout"
    assert next(row["kind"] for row in asked["kinds"] if row["has"] in weights) == "CLIP_L"
    # ComfyUI has it as the weight of a linear layer: what it multiplies by is the transpose.
    own = load_clip(clip_l).model.text_projection
    assert torch.equal(weights[asked["projection"]].T, own)


@pytest.mark.parametrize("dtype", ASKED["comfyui"]["dtypes"])
def test_a_dtype_stays_what_it_is(clip_l: Path, tmp_path: Path, dtype: str) -> None:
    checkpoint = read_checkpoint(clip_l)
    checkpoint.dtypes.update(dict.fromkeys(checkpoint.dtypes, getattr(torch, dtype)))
    write_checkpoint(checkpoint, tmp_path / "clip_l.safetensors", "comfyui", {})
    assert {tensor.dtype for tensor in load_file(tmp_path / "clip_l.safetensors").values()} == {
        getattr(torch, dtype)
    }


@pytest.mark.parametrize("dtype", ASKED["a1111"]["dtypes"])
def test_a1111s_checkpoint_takes_every_weight(
    clip_l: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dtype: str
) -> None:
    """By the block of docs/quickstart.md, on a checkpoint with A1111's names and another part that stays."""
    monkeypatch.chdir(tmp_path)
    prefix = ASKED["a1111"]["prefixes"]["Stable Diffusion 1.x"]
    run(str(clip_l), tmp_path / "clip_l.safetensors", "comfyui")
    tower = load_file("clip_l.safetensors")
    before = {prefix + name: torch.zeros_like(tower[name], dtype=getattr(torch, dtype)) for name in NAMES}
    before |= {prefix + ASKED["a1111"]["not_weights"]: torch.arange(77)[None],
               "model.diffusion_model.out.2.bias": torch.ones(4).half()}  # fmt: skip
    save_file(before, "v1-5-pruned-emaonly.safetensors")
    (block,) = [b for b in blocks(ROOT / "docs" / "quickstart.md") if "v1-5-negation.safetensors" in b.text]
    assert ASKED["a1111"]["prefixes"]["XL"].rstrip(".") in block.text
    exec(block.text, {})
    after = load_file("v1-5-negation.safetensors")
    assert after.keys() == before.keys()
    for name in before:
        assert after[name].dtype == before[name].dtype
        own = name.removeprefix(prefix)
        assert torch.equal(after[name], tower[own].to(after[name].dtype) if own in NAMES else before[name])


def test_invokeai_knows_the_folder_and_loads_it(tokenizer_folder: Path, tmp_path: Path) -> None:
    """By the commands of docs/quickstart.md, with ViT-L/14's width, by which InvokeAI tells the kind."""
    import transformers

    asked = ASKED["invokeai"]
    own = write_tiny_clip(tmp_path / "own", tokenizer_folder, seed=8, width=768, layers=1)
    run(str(own), tmp_path / "clip_l.safetensors", "comfyui")
    for name, kind in asked["folders"].items():
        folder = tmp_path / "negation-clip" / name
        run(str(tmp_path / "clip_l.safetensors"), folder, "transformers")
        if name == "text_encoder":
            config = json.loads((folder / "config.json").read_text("utf-8"))
            assert set(config["architectures"]) <= set(asked["architectures"])
            assert asked["hidden_sizes"][str(config["hidden_size"])] == "large"
            _, info = getattr(transformers, kind).from_pretrained(folder, output_loading_info=True)
            assert not info["missing_keys"]
