"""Low-rank updates: little is trained, and a host reads the file that comes of it."""

from pathlib import Path

import pytest
import torch
from diffusers import StableDiffusionPipeline
from safetensors.torch import load_file

from negclip_core.clip import load_clip
from negclip_core.models import LORA_FILE
from negclip_core.training.low_rank import add_low_rank, is_low_rank, merge_low_rank
from pipelines.train import run


@pytest.fixture(scope="module")
def trained(clip_folder: Path, corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("trained")
    run(corpus / "captions.json", corpus, str(clip_folder), out, "tokens", quiet=True, epochs=3, batch_size=4,
        learning_rate=1e-2, lora_rank=2, warm_up=0)  # fmt: skip
    return out


def test_an_update_changes_nothing_before_it_is_trained(clip_folder: Path) -> None:
    clip = load_clip(clip_folder)
    before = clip.encode_text(["a street with no cars"])
    add_low_rank(clip.model, 4)
    assert sum(is_low_rank(name) for name, _ in clip.model.named_parameters()) == 2 * 4 * 2
    assert torch.equal(clip.encode_text(["a street with no cars"]), before)
    merge_low_rank(clip.model)
    assert clip.model.state_dict().keys() == load_clip(clip_folder).model.state_dict().keys()


@pytest.mark.parametrize(("device", "dtype"), [("cpu", torch.float64), ("meta", torch.float32)], ids=str)
def test_an_update_lies_where_its_weight_does(clip_folder: Path, device: str, dtype: torch.dtype) -> None:
    model = load_clip(clip_folder).model.to(device, dtype)
    add_low_rank(model, 4)
    found = [p for name, p in model.named_parameters() if is_low_rank(name)]
    assert found and all(p.device.type == device and p.dtype == dtype for p in found)
    assert model.encode_text(torch.zeros(2, 77, dtype=torch.long, device=device)).dtype == dtype


def test_only_the_blocks_matrices_move_and_by_a_low_rank(clip_folder: Path, trained: Path) -> None:
    before, after = (load_clip(folder).checkpoint.weights for folder in (clip_folder, trained))
    moved = {name for name, tensor in after.items() if not torch.equal(tensor, before[name])}
    assert len(moved) == 2 * 4 and all(name.startswith("transformer.resblocks.") for name in moved)
    change = (
        after["transformer.resblocks.0.mlp.c_fc.weight"] - before["transformer.resblocks.0.mlp.c_fc.weight"]
    )
    assert int(torch.linalg.matrix_rank(change, rtol=1e-4)) == 2


def test_diffusers_reads_the_file_and_then_reads_as_the_trained_tower(
    trained: Path, clip_folder: Path, pipeline_folder: Path
) -> None:
    pipe = StableDiffusionPipeline.from_pretrained(pipeline_folder)
    ids = load_clip(clip_folder).tokenizer(["a street with no cars", "a park"])
    expected = load_clip(trained).text_encoder()(ids).last_hidden_state
    with torch.no_grad():
        own = pipe.text_encoder(ids).last_hidden_state
        pipe.load_lora_weights(trained, weight_name=LORA_FILE)
        torch.testing.assert_close(pipe.text_encoder(ids).last_hidden_state, expected, rtol=1e-4, atol=1e-5)
        pipe.unload_lora_weights()
        assert torch.equal(pipe.text_encoder(ids).last_hidden_state, own)
    assert (expected - own).abs().max() > 0.01
    assert len(load_file(trained / LORA_FILE)) == 2 * 6 * 2
