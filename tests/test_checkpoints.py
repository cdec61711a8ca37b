"""One CLIP in every layout reads as the same CLIP, and what is not a CLIP is refused in one line."""

import json
import pickle
import shutil
import warnings
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from negclip_core.checkpoints import read_checkpoint
from negclip_core.clip import load_clip
from negclip_core.errors import RequestError

TEXTS = ["a street with no cars", "a park"]


@pytest.fixture(scope="session")
def canonical(clip_folder: Path) -> dict[str, Tensor]:
    return load_file(clip_folder / "open_clip_model.safetensors")


def assert_same(got: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    assert got.keys() == expected.keys()
    for name in expected:
        assert torch.equal(got[name], expected[name]), name


@pytest.mark.parametrize("said", [True, False, None], ids=["quick_gelu", "gelu", "says nothing"])
def test_open_clip_folder_is_read_by_open_clip_itself(
    clip_folder: Path, tmp_path: Path, said: bool | None
) -> None:
    import open_clip

    folder = Path(shutil.copytree(clip_folder, tmp_path / "clip"))
    file = folder / "open_clip_config.json"
    document = json.loads(file.read_text())
    document["model_cfg"] |= {"quick_gelu": said}
    if said is None:
        del document["model_cfg"]["quick_gelu"]
    file.write_text(json.dumps(document))
    theirs = open_clip.create_model(f"local-dir:{folder}")
    tokenizer = open_clip.get_tokenizer(f"local-dir:{folder}")
    ours = load_clip(folder)
    assert_same(ours.model.state_dict(), theirs.state_dict())
    with torch.no_grad():
        expected = theirs.eval().encode_text(tokenizer(TEXTS), normalize=True)
    torch.testing.assert_close(ours.encode_text(TEXTS), expected)


@pytest.mark.parametrize("suffix", [".pt", ".safetensors", ".whatever"])
def test_openai_state_dict(canonical: dict[str, Tensor], tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"weights{suffix}"
    if suffix == ".safetensors":
        save_file(canonical, path)
    else:
        torch.save({**canonical, "input_resolution": torch.tensor(16)}, path)
    checkpoint = read_checkpoint(path)
    assert checkpoint.layout == "openai"
    assert_same(checkpoint.weights, canonical)
    assert checkpoint.config["embed_dim"] == 32
    assert checkpoint.config["vision_cfg"]["image_size"] == 16


def _transformers_model(clip_folder: Path, canonical: dict[str, Tensor]) -> Any:
    """transformers' CLIPModel holding the same weights, filled by hand rather than by the code under test."""
    from transformers import CLIPConfig, CLIPModel

    text = load_clip(clip_folder).text_encoder().config.to_dict()
    vision: dict[str, object] = {
        "hidden_size": 64,
        "intermediate_size": 256,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
    }
    vision |= {"image_size": 16, "patch_size": 8, "hidden_act": "quick_gelu"}
    model = CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=32))
    with torch.no_grad():
        for tower, prefix in ((model.text_model, ""), (model.vision_model, "visual.")):
            for i, layer in enumerate(tower.encoder.layers):
                block = f"{prefix}transformer.resblocks.{i}."
                attention = layer.self_attn
                for kind in ("weight", "bias"):
                    q, k, v = canonical[f"{block}attn.in_proj_{kind}"].chunk(3)
                    for part, value in ((attention.q_proj, q), (attention.k_proj, k), (attention.v_proj, v)):
                        getattr(part, kind).copy_(value)
                    getattr(attention.out_proj, kind).copy_(canonical[f"{block}attn.out_proj.{kind}"])
                    getattr(layer.layer_norm1, kind).copy_(canonical[f"{block}ln_1.{kind}"])
                    getattr(layer.layer_norm2, kind).copy_(canonical[f"{block}ln_2.{kind}"])
                    getattr(layer.mlp.fc1, kind).copy_(canonical[f"{block}mlp.c_fc.{kind}"])
                    getattr(layer.mlp.fc2, kind).copy_(canonical[f"{block}mlp.c_proj.{kind}"])
        model.text_model.embeddings.token_embedding.weight.copy_(canonical["token_embedding.weight"])
        model.text_model.embeddings.position_embedding.weight.copy_(canonical["positional_embedding"])
        model.text_model.final_layer_norm.weight.copy_(canonical["ln_final.weight"])
        model.text_model.final_layer_norm.bias.copy_(canonical["ln_final.bias"])
        model.vision_model.embeddings.class_embedding.copy_(canonical["visual.class_embedding"])
        model.vision_model.embeddings.patch_embedding.weight.copy_(canonical["visual.conv1.weight"])
        model.vision_model.embeddings.position_embedding.weight.copy_(
            canonical["visual.positional_embedding"]
        )
        for theirs, ours in (("pre_layrnorm", "ln_pre"), ("post_layernorm", "ln_post")):
            for kind in ("weight", "bias"):
                getattr(getattr(model.vision_model, theirs), kind).copy_(canonical[f"visual.{ours}.{kind}"])
        model.text_projection.weight.copy_(canonical["text_projection"].T)
        model.visual_projection.weight.copy_(canonical["visual.proj"].T)
        model.logit_scale.copy_(canonical["logit_scale"])
    return model.eval()


@pytest.mark.parametrize("shard", ["1GB", "100KB"])
def test_transformers_folder(
    clip_folder: Path, canonical: dict[str, Tensor], tmp_path: Path, shard: str
) -> None:
    model = _transformers_model(clip_folder, canonical)
    model.save_pretrained(tmp_path, max_shard_size=shard)
    assert (tmp_path / "model.safetensors").exists() == (shard == "1GB")
    checkpoint = read_checkpoint(tmp_path)
    assert checkpoint.layout == "transformers"
    assert_same(checkpoint.weights, canonical)
    assert checkpoint.config["text_cfg"]["heads"] == 2
    assert checkpoint.config["vision_cfg"]["head_width"] == 32


@pytest.mark.parametrize("prefix", ["text_model.", ""])
def test_text_towers_with_and_without_prefix(
    clip_folder: Path, canonical: dict[str, Tensor], tmp_path: Path, prefix: str
) -> None:
    encoder = load_clip(clip_folder).text_encoder()
    encoder.save_pretrained(tmp_path)
    weights = {
        prefix + name.removeprefix("text_model."): tensor
        for name, tensor in load_file(tmp_path / "model.safetensors").items()
    }
    save_file(weights, tmp_path / "model.safetensors", metadata={"format": "pt"})
    checkpoint = read_checkpoint(tmp_path)
    assert checkpoint.layout == "transformers"
    expected = {k: v for k, v in canonical.items() if not k.startswith("visual.")}
    assert_same(
        checkpoint.weights, {k: v for k, v in expected.items() if k not in ("text_projection", "logit_scale")}
    )


def test_comfyui_text_encoder_needs_a_base_for_images(clip_folder: Path, tmp_path: Path) -> None:
    from PIL import Image

    clip = load_clip(clip_folder)
    save_file(clip.text_encoder(projection=True).state_dict(), tmp_path / "clip_l.safetensors")
    alone = load_clip(tmp_path / "clip_l.safetensors")
    assert alone.checkpoint.layout == "comfyui"
    assert alone.model.visual is None
    with pytest.raises(RequestError, match="text tower only"):
        alone.encode_image([Image.new("RGB", (16, 16))])
    whole = load_clip(tmp_path / "clip_l.safetensors", base=clip)
    torch.testing.assert_close(
        whole.encode_image([Image.new("RGB", (16, 16))]), clip.encode_image([Image.new("RGB", (16, 16))])
    )
    assert whole.logit_scale == clip.logit_scale


def test_the_same_weights_give_the_same_bytes(clip_folder: Path, tmp_path: Path) -> None:
    from negclip_core.checkpoints import write_open_clip_folder

    checkpoint = read_checkpoint(clip_folder)
    sums = {
        write_open_clip_folder(
            tmp_path / str(i), checkpoint.weights, checkpoint.config, preprocess={}, made_by={"a": 1, "b": 2}
        )
        for i in range(8)
    }
    assert len(sums) == 1
    assert '"a": 1' in (tmp_path / "0" / "README.md").read_text()


def _archive(clip_folder: Path, path: Path) -> None:
    """OpenAI's form: a TorchScript archive of the whole model."""
    model = load_clip(clip_folder).model.half().float()
    calls = {"encode_image": torch.zeros(1, 3, 16, 16), "encode_text": torch.ones(1, 77, dtype=torch.long)}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", torch.jit.TracerWarning)
        traced = torch.jit.trace_module(model, calls, check_trace=False)
    torch.jit.save(traced, path)


def test_openais_own_archive_is_read_without_running_it(
    clip_folder: Path, canonical: dict[str, Tensor], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _archive(clip_folder, tmp_path / "any.pt")

    def run(*_: Any, **__: Any) -> None:
        raise AssertionError("the archive was loaded as code")

    monkeypatch.setattr(torch.jit, "load", run)
    checkpoint = read_checkpoint(tmp_path / "any.pt")
    assert checkpoint.layout == "openai"
    assert_same(checkpoint.weights, {name: tensor.half().float() for name, tensor in canonical.items()})


@pytest.mark.parametrize("kind", ["asks for code", "lies about its size"])
def test_an_archive_with_more_than_tensors_is_refused(
    clip_folder: Path, tmp_path: Path, kind: str, capsys: pytest.CaptureFixture[str]
) -> None:
    whole, path = tmp_path / "whole.pt", tmp_path / "archive.pt"
    _archive(clip_folder, whole)
    with zipfile.ZipFile(whole) as source, zipfile.ZipFile(path, "w") as target:
        for entry in source.infolist():
            content = source.read(entry)
            if kind == "asks for code" and entry.filename.endswith("/data.pkl"):
                content = pickle.dumps(_Trap())
            if kind == "lies about its size" and entry.filename.endswith("/data/0"):
                content = content[:-4]
            target.writestr(entry.filename, content)
    with pytest.raises(RequestError, match=r"archive\.pt: cannot be read"):
        read_checkpoint(path)
    assert "must never run" not in capsys.readouterr().out


def test_text_encoders_inside_stable_diffusion_files(
    clip_folder: Path, wide_clip_folder: Path, canonical: dict[str, Tensor], tmp_path: Path
) -> None:
    small, wide = (load_clip(folder) for folder in (clip_folder, wide_clip_folder))
    first, second = "conditioner.embedders.0.transformer.", "conditioner.embedders.1.model."
    inside = {first + name: t for name, t in small.text_encoder(projection=True).state_dict().items()}
    others = {name: t for name, t in wide.checkpoint.weights.items() if not name.startswith("visual.")}
    inside |= {second + name: tensor for name, tensor in others.items()}
    inside["model.diffusion_model.input_blocks.0.0.weight"] = torch.zeros(3)
    save_file({name: tensor.contiguous() for name, tensor in inside.items()}, tmp_path / "sdxl.safetensors")
    for width in (None, 80):  # 80: neither has it
        with pytest.raises(
            RequestError, match="holds one of width 64, one of width 96; name the architecture"
        ):
            read_checkpoint(tmp_path / "sdxl.safetensors", width)
    assert_same(read_checkpoint(tmp_path / "sdxl.safetensors", 96).weights, others)
    text = {k: v for k, v in canonical.items() if not k.startswith("visual.") and k != "logit_scale"}
    assert_same(read_checkpoint(tmp_path / "sdxl.safetensors", 64).weights, text)
    alone = {
        "cond_stage_model.transformer." + name.removeprefix(first): t
        for name, t in inside.items()
        if first in name
    }
    save_file({name: tensor.contiguous() for name, tensor in alone.items()}, tmp_path / "sd.safetensors")
    assert_same(read_checkpoint(tmp_path / "sd.safetensors").weights, text)


class _Trap:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return (print, ("this must never run",))


def test_what_is_not_a_clip_is_refused(
    clip_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bad = tmp_path / "bad.pt"
    whole = (clip_folder / "open_clip_model.safetensors").read_bytes()
    contents = {
        "empty": b"",
        "text": b"a street with no cars",
        "truncated": whole[: len(whole) // 2],
        "pickle": pickle.dumps(_Trap()),
    }
    for what, content in contents.items():
        bad.write_bytes(content)
        with pytest.raises(RequestError, match=r"bad\.pt: cannot be read") as caught:
            read_checkpoint(bad)
        assert "\n" not in str(caught.value), what
    torch.save({"trap": _Trap()}, bad)
    with pytest.raises(RequestError, match="cannot be read"):
        read_checkpoint(bad)
    assert "never run" not in capsys.readouterr().out
    torch.save([torch.zeros(2)], bad)
    with pytest.raises(RequestError, match="expected a state dict, got list"):
        read_checkpoint(bad)
    save_file({"unet.weight": torch.zeros(2)}, bad)
    with pytest.raises(RequestError, match=r"got 1 tensors such as unet\.weight"):
        read_checkpoint(bad)


def test_a_tensor_that_is_missing_is_named(clip_folder: Path, tmp_path: Path) -> None:
    weights = load_clip(clip_folder).text_encoder(projection=True).state_dict()
    del weights["text_model.encoder.layers.1.mlp.fc1.bias"]
    save_file(weights, tmp_path / "holes.safetensors")
    with pytest.raises(RequestError, match=r"encoder\.layers\.1\.mlp\.fc1\.bias"):
        read_checkpoint(tmp_path / "holes.safetensors")


def test_a_config_that_belongs_to_other_weights_is_refused(clip_folder: Path, tmp_path: Path) -> None:
    config = json.loads((clip_folder / "open_clip_config.json").read_text())
    config["model_cfg"]["text_cfg"]["width"] = 512
    (tmp_path / "open_clip_config.json").write_text(json.dumps(config))
    (tmp_path / "open_clip_model.safetensors").write_bytes(
        (clip_folder / "open_clip_model.safetensors").read_bytes()
    )
    with pytest.raises(RequestError, match="says text width 512, the weights have 64"):
        read_checkpoint(tmp_path)
