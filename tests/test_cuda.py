"""What holds on a CUDA device; skipped where torch has none."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hosts import HOSTS, drawer, make_host  # type: ignore[import-not-found]  # pytest puts tests/ on the path
from manners import NEGATED, PLAIN  # type: ignore[import-not-found]
from test_packed import LENGTHS, _ids, _tower, _with_gradients  # type: ignore[import-not-found]

from integrations.attention import use_attention
from integrations.stable_diffusion import swap_text_encoder
from negclip_core.clip import load_clip
from negclip_core.models import LORA_FILE
from negclip_core.training.packed import pooled
from pipelines.host import load_host
from pipelines.train import run

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="torch has no CUDA device")


def _on_gpu(pipe: Any) -> Any:
    return pipe.to("cuda")


def _model_offload(pipe: Any) -> Any:
    pipe.enable_model_cpu_offload()
    return pipe


def _sequential_offload(pipe: Any) -> Any:
    pipe.enable_sequential_cpu_offload()
    return pipe


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16], ids=str)
@pytest.mark.parametrize("place", [_on_gpu, _model_offload, _sequential_offload])
@pytest.mark.parametrize("host", HOSTS)
def test_a_swapped_host_obeys_wherever_its_weights_lie(
    host: str, place: Callable[[Any], Any], dtype: torch.dtype,
    clip_folder: Path, other_clip_folder: Path, wide_clip_folder: Path,
) -> None:  # fmt: skip
    draw = drawer(host)
    pipe = place(make_host(host, clip_folder, wide_clip_folder).to(dtype))
    before = {text: draw(pipe, text) for text in (NEGATED, PLAIN)}
    with swap_text_encoder(pipe, load_clip(other_clip_folder)):
        assert not torch.equal(draw(pipe, NEGATED), before[NEGATED])
        assert torch.equal(draw(pipe, PLAIN), before[PLAIN])
    assert torch.equal(draw(pipe, NEGATED), before[NEGATED])
    assert torch.equal(draw(pipe, PLAIN), before[PLAIN])


def test_a_device_map_takes_a_swap(pipeline_folder: Path, other_clip_folder: Path) -> None:
    from diffusers import StableDiffusionPipeline

    draw = drawer("Stable Diffusion 1.x")
    pipe = StableDiffusionPipeline.from_pretrained(pipeline_folder, device_map="balanced")
    before = draw(pipe, PLAIN)
    with swap_text_encoder(pipe, load_clip(other_clip_folder)):
        moved = draw(pipe, NEGATED)
        assert torch.equal(draw(pipe, PLAIN), before)
    assert not torch.equal(draw(pipe, NEGATED), moved)


def test_xformers_draws_what_sdpa_draws(pipeline_folder: Path) -> None:
    pytest.importorskip("xformers")
    pipe, draw = load_host(str(pipeline_folder), "cuda").pipe, drawer("Stable Diffusion 1.x")
    plain = draw(pipe, PLAIN)
    use_attention(pipe, "xformers", "xformers")
    torch.testing.assert_close(draw(pipe, PLAIN), plain, rtol=0.05, atol=0.05)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_packed_texts_are_what_padded_ones_are(dtype: torch.dtype) -> None:
    model, ids = _tower(True), _ids(49)
    wanted, gradients = _with_gradients(model, lambda: model.encode_text(ids))
    model.cuda()

    def packed() -> torch.Tensor:
        with torch.autocast("cuda", torch.bfloat16, enabled=dtype == torch.bfloat16):
            return pooled(model, ids).float().cpu()

    got, found = _with_gradients(model, packed)
    assert got.shape[0] == len(LENGTHS)
    near = 1e-4 if dtype == torch.float32 else 0.05
    assert float((got - wanted).norm() / wanted.norm()) < near
    assert found.keys() == gradients.keys()
    for name, gradient in gradients.items():
        error = (found[name].cpu() - gradient).norm() / gradient.norm().clamp(min=1e-6)
        assert float(error) < 4 * near, name


@pytest.mark.parametrize("recipe", ["paper", "con-clip", "hard-negatives", "tokens", "host"])
def test_training_takes_the_steps_that_a_processor_takes(
    recipe: str, corpus: Path, clip_folder: Path, pipeline_folder: Path, tmp_path: Path
) -> None:
    def train(device: str, **changes: Any) -> list[float]:
        host = str(pipeline_folder) if recipe == "host" else None
        told = run(corpus / "captions.json", corpus, str(clip_folder), tmp_path / f"{device}{len(changes)}", recipe, host,
                   device=device, quiet=True, batch_size=8, **{"bf16": False, "epochs": 2, **changes})  # fmt: skip
        losses: list[float] = told["validation_loss"]
        return losses

    # Convolutions, which only a host has, are TF32 on CUDA.
    near = 1e-2 if recipe == "host" else 1e-3
    assert train("cuda") == pytest.approx(train("cpu"), rel=near)
    # In bfloat16 near it, and a run that is over is not begun anew.
    assert train("cuda", bf16=True, epochs=1) == pytest.approx(train("cpu", epochs=1), rel=0.05)
    assert train("cuda") == train("cuda")


def test_low_rank_updates_are_trained_as_on_a_processor(
    corpus: Path, clip_folder: Path, tmp_path: Path
) -> None:
    def train(device: str) -> list[float]:
        told = run(corpus / "captions.json", corpus, str(clip_folder), tmp_path / device, device=device, quiet=True, batch_size=8,
                   epochs=2, learning_rate=1e-2, lora_rank=2)  # fmt: skip
        assert (tmp_path / device / LORA_FILE).is_file()
        losses: list[float] = told["validation_loss"]
        return losses

    assert train("cuda") == pytest.approx(train("cpu"), rel=1e-3)
