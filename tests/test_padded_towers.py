"""Text towers that read their padding, as SigLIP's do, are trained with it, and refused where none can be."""

from pathlib import Path
from typing import Any

import pytest
import torch
from open_clip.model import CLIP, CLIPTextCfg, CLIPVisionCfg
from safetensors.torch import save_file
from torch import Tensor

from eval.rivals import Rival
from negclip_core.checkpoints import write_open_clip_folder
from negclip_core.clip import Clip, load_clip
from negclip_core.convert import write_checkpoint
from negclip_core.errors import RequestError
from negclip_core.training import packed
from negclip_core.training.captions_file import read_captions
from negclip_core.training.tables import caption_tables
from negclip_core.training.text import reads_padding
from pipelines.train import run

TEXTS = ["a street with no cars", "a park", ""]
SIGLIP = {"context_length": 64, "no_causal_mask": True, "pool_type": "last"}


@pytest.fixture(params=[SIGLIP, {"pool_type": "last"}, {"no_causal_mask": True}],
                ids=["as SigLIP", "pooled at the last position", "looks both ways"])  # fmt: skip
def folder(request: pytest.FixtureRequest, clip_folder: Path, tmp_path: Path) -> Path:
    """The tiny CLIP with such a text tower."""
    own = load_clip(clip_folder)
    config = {**own.config, "text_cfg": {**own.config["text_cfg"], **request.param}}
    torch.manual_seed(0)
    model = CLIP(
        32, CLIPVisionCfg(**config["vision_cfg"]), CLIPTextCfg(**config["text_cfg"]), quick_gelu=True
    )
    write_open_clip_folder(tmp_path / "clip", model.state_dict(), config, preprocess=own.checkpoint.preprocess,
                           made_by={}, tokenizer_folder=clip_folder)  # fmt: skip
    return tmp_path / "clip"


def test_they_are_recognised_and_encoded_as_open_clip_does(folder: Path, clip: Clip) -> None:
    import open_clip

    assert reads_padding(load_clip(folder).model) and not reads_padding(clip.model)
    theirs = open_clip.create_model(f"local-dir:{folder}").eval()
    ids = open_clip.get_tokenizer(f"local-dir:{folder}")(TEXTS)
    with torch.no_grad():
        torch.testing.assert_close(
            load_clip(folder).encode_text(TEXTS), theirs.encode_text(ids, normalize=True)
        )


@pytest.mark.parametrize("at_once", [16_384, 100], ids=["together", "in parts"])
def test_their_embeddings_and_gradients_are_those_of_padded_texts(
    folder: Path, corpus: Path, tmp_path: Path, at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(packed, "_TOKENS_AT_ONCE", at_once)
    clip = load_clip(folder)
    records = list(read_captions(corpus / "captions.json"))
    tables = caption_tables(records, clip.tokenizer, tmp_path / "captions", padded=True)
    ids = tables.negated[torch.arange(len(records))].long()
    assert torch.equal(ids, clip.tokenizer([record.negated for record in records]))

    def gradients(out: Tensor) -> dict[str, Tensor]:
        clip.model.zero_grad()
        (out * torch.linspace(-1, 1, out.numel()).view_as(out)).sum().backward()
        return {name: p.grad.clone() for name, p in clip.model.named_parameters() if p.grad is not None}

    clip.model.double()  # in float32 the order of the sums shows
    found, expected = packed.pooled(clip.model, ids), clip.model.encode_text(ids)
    torch.testing.assert_close(found, expected)
    of_found, of_expected = gradients(found), gradients(expected)
    assert of_found.keys() == of_expected.keys() and "positional_embedding" in of_found
    for name, gradient in of_found.items():
        torch.testing.assert_close(gradient, of_expected[name], msg=name)


def test_they_are_trained(folder: Path, corpus: Path, tmp_path: Path) -> None:
    settings: dict[str, Any] = {"epochs": 1, "batch_size": 8, "learning_rate": 1e-3, "quiet": True}
    run(corpus / "captions.json", corpus, str(folder), tmp_path / "out", **settings)
    before, after = load_clip(folder), load_clip(tmp_path / "out")
    assert reads_padding(after.model)
    # What stands after the end token has its share in what is learned.
    moved = (after.model.positional_embedding - before.model.positional_embedding).abs().amax(1)
    assert (moved > 0).all()


def test_what_they_cannot_do_is_refused(folder: Path, corpus: Path, tmp_path: Path) -> None:
    clip = load_clip(folder)
    with pytest.raises(RequestError, match=r"reads its padding.*recipe paper"):
        run(
            corpus / "captions.json",
            corpus,
            str(folder),
            tmp_path / "out",
            "tokens",
            epochs=1,
            batch_size=8,
            quiet=True,
        )
    with pytest.raises(RequestError, match=r"reads its padding.*no host"):
        clip.text_encoder()
    for layout, name in (("openai", "clip.pt"), ("transformers", "hub"), ("comfyui", "clip.safetensors")):
        with pytest.raises(RequestError, match=f"{layout}'s layout cannot hold"):
            write_checkpoint(clip.checkpoint, tmp_path / name, layout, {})
        assert not (tmp_path / name).exists()


def _of_open_clip() -> dict[str, Tensor]:
    from open_clip.model import CustomTextCLIP

    text = CLIPTextCfg(**SIGLIP, vocab_size=100, width=64, heads=2, layers=1, proj_bias=True)
    vision = CLIPVisionCfg(image_size=16, patch_size=8, layers=1, width=64)
    return CustomTextCLIP(32, vision, text, init_logit_bias=-10).state_dict()


def _of_transformers(kind: str) -> dict[str, Tensor]:
    import transformers

    sizes = {"hidden_size": 64, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 2}
    text = {**sizes, "vocab_size": 100, "projection_size": 64}
    if kind == "SiglipTextModel":
        return transformers.SiglipTextModel(transformers.SiglipTextConfig(**text)).state_dict()
    vision = {**sizes, "image_size": 16, "patch_size": 8}
    config = transformers.SiglipConfig(text_config=text, vision_config=vision)
    return transformers.SiglipModel(config).state_dict()


@pytest.mark.parametrize("kind", ["CustomTextCLIP", "SiglipModel", "SiglipTextModel"])
def test_siglip_itself_is_refused(kind: str, tmp_path: Path) -> None:
    weights = _of_open_clip() if kind == "CustomTextCLIP" else _of_transformers(kind)
    save_file(
        {name: tensor.contiguous() for name, tensor in weights.items()}, tmp_path / "siglip.safetensors"
    )
    with pytest.raises(RequestError, match=r"siglip\.safetensors: is a SigLIP"):
        load_clip(tmp_path / "siglip.safetensors")


def test_they_have_no_end_token_to_steer(folder: Path) -> None:
    with pytest.raises(RequestError, match="arm mine: its text tower reads its padding"):
        Rival("mine", load_clip(folder), "steering", tuned=False).texts(["a street with no cars"])
