"""`load_clip`: one handle from any source, and the same text tower in open_clip's and transformers' classes."""

import json
from pathlib import Path

import pytest
import torch
from PIL import Image

from negclip_core import load_clip
from negclip_core.checkpoints import Checkpoint
from negclip_core.clip import _as_architecture
from negclip_core.errors import RequestError
from negclip_core.models import architecture_file, arms_of, resolve, shipped, text_encoder_for

TEXTS = ["a street with no cars", "a dog that is not on the bench", ""]


def test_encodings_are_of_unit_length(clip_folder: Path) -> None:
    clip = load_clip(str(clip_folder))
    text = clip.encode_text(TEXTS)
    image = clip.encode_image([Image.new("RGB", (30, 20), "red"), Image.new("L", (16, 16))])
    assert text.shape == (3, 32)
    assert image.shape == (2, 32)
    torch.testing.assert_close(text.norm(dim=1), torch.ones(3))
    torch.testing.assert_close(image.norm(dim=1), torch.ones(2))
    assert clip.logit_scale == pytest.approx(1 / 0.07, rel=1e-5)


def test_tokens_end_with_the_highest_id_and_are_padded_with_it(clip_folder: Path) -> None:
    clip = load_clip(clip_folder)
    ids = clip.tokenizer([TEXTS[0], "no " * 200])
    end = clip.config["text_cfg"]["vocab_size"] - 1
    assert ids.dtype == torch.int64
    assert ids.shape == (2, 77)
    assert ids[0, 6:].eq(end).all()
    assert ids[1, -1] == end and not ids[1, :-1].eq(end).any()


def test_the_host_encoder_computes_what_open_clip_computes(clip_folder: Path) -> None:
    clip = load_clip(clip_folder)
    ids = clip.tokenizer(TEXTS)
    host = clip.text_encoder(projection=True)
    with torch.no_grad():
        expected = clip.model.encode_text(ids)
        got = host(ids)
        plain = clip.text_encoder()(ids)
    torch.testing.assert_close(got.text_embeds, expected, rtol=1e-5, atol=1e-6)
    assert torch.equal(plain.last_hidden_state, got.last_hidden_state)
    torch.testing.assert_close(plain.pooler_output @ clip.model.text_projection, got.text_embeds)


def test_the_host_encoder_follows_training(clip_folder: Path) -> None:
    clip = load_clip(clip_folder)
    before = clip.text_encoder().embeddings.token_embedding.weight
    with torch.no_grad():
        clip.model.token_embedding.weight += 1
    after = clip.text_encoder().embeddings.token_embedding.weight
    torch.testing.assert_close(after, before + 1)


def test_the_text_tower_is_there_without_importing_open_clip(clip_folder: Path) -> None:
    import subprocess
    import sys

    code = (
        "import sys; from negclip_core import load_clip; "
        f"load_clip({str(clip_folder)!r}).text_encoder(); sys.exit('open_clip' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_a_file_is_checked_against_the_architecture(clip_folder: Path) -> None:
    with pytest.raises(RequestError, match="no architecture called 'ViT-Q-99'"):
        load_clip(clip_folder, architecture="ViT-Q-99")
    with pytest.raises(RequestError, match=r"ViT-L-14 has (text|vision) \w+ \d+, the weights have \d+"):
        load_clip(clip_folder, architecture="ViT-L-14")


def test_perceptrons_are_checked_against_the_architecture() -> None:
    file = architecture_file("ViT-B-32")
    assert file is not None
    config = json.loads(file.read_text("utf-8"))
    config["vision_cfg"]["mlp_ratio"] = 3.0
    checkpoint = Checkpoint({}, config, "openai", "", config_known=False)
    with pytest.raises(RequestError, match="ViT-B-32 has vision mlp width 3072, the weights have 2304"):
        _as_architecture(checkpoint, "ViT-B-32", "some.pt")


def test_a_base_of_another_width_is_refused(clip_folder: Path, tmp_path: Path) -> None:
    from safetensors.torch import save_file

    clip = load_clip(clip_folder)
    weights = clip.text_encoder(projection=True).state_dict()
    weights["text_projection.weight"] = torch.zeros(48, 64)
    save_file(weights, tmp_path / "text.safetensors")
    with pytest.raises(RequestError, match="expected text embeddings of 32"):
        load_clip(tmp_path / "text.safetensors", base=clip)


@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("", "no model called ''"),
        ("nonesuch", "no model called 'nonesuch': expected a shipped name (miniature, "),
        ("miniature/nonesuch", "no model called 'miniature/nonesuch'"),
        ("./no/such/folder", "no model called './no/such/folder'"),
    ],
)
def test_unknown_names(name: str, line: str) -> None:
    with pytest.raises(RequestError) as caught:
        load_clip(name)
    assert line in str(caught.value)


def test_the_hub_repository_of_several_clips_needs_an_architecture() -> None:
    with pytest.raises(RequestError, match=r"expected architecture ViT-B-32, .*; none was given"):
        load_clip("jerryray/negationclip")


def test_the_architecture_picks_the_file(monkeypatch: pytest.MonkeyPatch, clip_folder: Path) -> None:
    import huggingface_hub

    asked = []

    def download(repository: str, name: str) -> str:
        asked.append((repository, name))
        return str(clip_folder / "open_clip_model.safetensors")

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", download)
    with pytest.raises(RequestError, match="ViT-L-14 has"):  # the stand-in is no ViT-L/14
        load_clip("jerryray/negationclip", architecture="ViT-L-14")
    assert asked == [("jerryray/negationclip", "negationclip_ViT-L14.pth")]


def test_a_hub_out_of_reach_is_one_line(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    import huggingface_hub.constants

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(RequestError, match="somebody/some-clip: cannot be fetched from the hub") as caught:
        load_clip("somebody/some-clip")
    assert "\n" not in str(caught.value)


def test_names() -> None:
    assert "miniature/negationclip" in shipped()
    assert (
        resolve("stable-diffusion-v1-5/stable-diffusion-v1-5")
        == "stable-diffusion-v1-5/stable-diffusion-v1-5"
    )
    assert text_encoder_for("any/sd15", width=768, layers=12).architecture == "ViT-L-14"
    assert text_encoder_for("miniature", width=192, layers=4).source == "miniature/negationclip"
    assert text_encoder_for("any/sd15", 768, 12, "jerryray/negationclip").architecture == "ViT-L-14"
    assert text_encoder_for("any/sd15", 768, 12, "some/folder").architecture is None
    with pytest.raises(RequestError, match="name one with --text-encoder"):
        text_encoder_for("any/other", width=100, layers=4)
    assert arms_of("ViT-L-14")["vanilla"].source == "ViT-L-14:openai"
    assert list(arms_of("some/folder")) == ["vanilla"]
