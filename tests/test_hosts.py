"""The swap on tiny random pipelines of every host's own classes: the right slot, only there, and undone exactly."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import write_tiny_clip  # type: ignore[import-not-found]  # pytest puts tests/ on the path
from hosts import HOSTS, OPTIONS, make_host  # type: ignore[import-not-found]

from integrations.stable_diffusion import check_fit, slots_of, swap_text_encoder
from negclip_core.clip import Clip, load_clip
from negclip_core.errors import RequestError

NEGATED, PLAIN = "a street with no cars", "a street with a car"


@pytest.fixture(scope="module")
def small(other_clip_folder: Path) -> Clip:
    """Another CLIP of the first slot's shape."""
    return load_clip(other_clip_folder)


@pytest.fixture(params=list(HOSTS)[1:])  # those that read more than one prompt, or more than the words
def host(
    request: pytest.FixtureRequest, clip_folder: Path, wide_clip_folder: Path
) -> tuple[str, Any, Callable[[str], torch.Tensor]]:
    """A host's name, its pipeline, and a function that draws a prompt from the same noise each time."""
    pipe = make_host(request.param, clip_folder, wide_clip_folder)
    settings: dict[str, Any] = {"height": 16, "width": 16, **OPTIONS.get(request.param, {})}

    def draw(prompt: str) -> torch.Tensor:
        generator = torch.Generator().manual_seed(0)
        return pipe(prompt, num_inference_steps=2, output_type="pt", generator=generator, **settings).images

    return request.param, pipe, draw


Host = tuple[str, Any, Callable[[str], torch.Tensor]]


def test_a_negated_prompt_is_read_by_the_new_encoder_and_no_other(host: Host, small: Clip) -> None:
    _, pipe, draw = host
    own, others = (
        pipe.text_encoder,
        {name: module for name, module in pipe.components.items() if name != "text_encoder"},
    )
    before = {prompt: draw(prompt) for prompt in (NEGATED, PLAIN)}
    with swap_text_encoder(pipe, small):
        assert {name: pipe.components[name] for name in others} == others
        assert not torch.equal(draw(NEGATED), before[NEGATED])
        assert torch.equal(draw(PLAIN), before[PLAIN])
    assert pipe.text_encoder is own
    assert torch.equal(draw(NEGATED), before[NEGATED])


def test_the_encoder_finds_the_slot_that_it_fits(host: Host, wide_clip_folder: Path) -> None:
    name, pipe, draw = host
    wide = load_clip(wide_clip_folder)
    if name == "FLUX.1":
        with pytest.raises(
            RequestError, match="does not fit text_encoder of FluxPipeline: width 64 expected, 96 given"
        ):
            check_fit(pipe, wide)
        return
    assert check_fit(pipe, wide).module == "text_encoder_2"
    shifted = load_clip(wide_clip_folder)
    for tensor in shifted.checkpoint.weights.values():
        tensor.mul_(1.1)
    before = draw(NEGATED)
    with swap_text_encoder(pipe, shifted):
        assert not torch.equal(draw(NEGATED), before)


def test_stable_diffusion_2_takes_a_tower_without_its_last_block(
    pipeline_folder: Path, small: Clip, other_clip_folder: Path
) -> None:
    from diffusers import StableDiffusionPipeline

    pipe = StableDiffusionPipeline.from_pretrained(pipeline_folder)
    pipe.set_progress_bar_config(disable=True)
    whole = small.text_encoder()
    pipe.text_encoder = load_clip(other_clip_folder).text_encoder(layers=1)
    with swap_text_encoder(pipe, small, gate=False):
        ids = pipe.tokenizer([NEGATED], padding="max_length", return_tensors="pt").input_ids
        read = pipe.text_encoder(ids).last_hidden_state
    states = whole(ids, output_hidden_states=True).hidden_states
    torch.testing.assert_close(read, whole.final_layer_norm(states[-2]))


def test_people_are_told_what_a_slot_is_worth(host: Host, small: Clip) -> None:
    assert "expect a" in check_fit(host[1], small).note


def test_two_slots_are_swapped_one_inside_the_other(host: Host, small: Clip, wide_clip_folder: Path) -> None:
    name, pipe, draw = host
    if len(slots_of(pipe)) == 1:
        pytest.skip(f"{name} has one slot")
    first, second = pipe.text_encoder, pipe.text_encoder_2
    with swap_text_encoder(pipe, small), swap_text_encoder(pipe, load_clip(wide_clip_folder)):
        draw(NEGATED)
        assert pipe.text_encoder is not first and pipe.text_encoder_2 is not second
    assert pipe.text_encoder is first and pipe.text_encoder_2 is second


def test_an_encoder_that_fits_no_slot_is_refused_with_every_reason(host: Host, small: Clip) -> None:
    from dataclasses import replace

    text = {**small.checkpoint.config["text_cfg"], "width": 128}
    config = {**small.checkpoint.config, "text_cfg": text}
    wrong = Clip("another", replace(small.checkpoint, config=config), torch.device("cpu"))
    with pytest.raises(RequestError) as refusal:
        check_fit(host[1], wrong)
    for slot in slots_of(host[1]):
        assert f"does not fit {slot.module} of" in str(refusal.value)


def test_a_tower_without_its_projection_is_refused_where_the_host_reads_it(
    clip_folder: Path, wide_clip_folder: Path, tokenizer_folder: Path, tmp_path: Path
) -> None:
    # As wide as its embeddings, like ViT-L/14; Stable Diffusion 1.x keeps the tower alone.
    whole = load_clip(write_tiny_clip(tmp_path / "clip", tokenizer_folder, seed=5, width=32))
    whole.text_encoder().save_pretrained(tmp_path / "tower")
    tower = load_clip(tmp_path / "tower")
    pipe = make_host("Stable Diffusion 3.x", clip_folder, wide_clip_folder)
    pipe.text_encoder = own = whole.text_encoder(projection=True)
    with pytest.raises(RequestError, match=r"text_encoder of .*: projection 32 expected, none given;"):
        swap_text_encoder(pipe, tower)
    assert pipe.text_encoder is own
    assert check_fit(pipe, whole).module == "text_encoder"
    with pytest.raises(RequestError, match="has no text projection"):
        tower.text_encoder(projection=True)


@pytest.mark.parametrize(
    ("name", "reason"),
    [("KandinskyV22CombinedPipeline", "its prior turns"), ("PixArtSigmaPipeline", "T5 alone")],
)
def test_hosts_that_a_swap_does_not_help_say_why(name: str, reason: str, small: Clip) -> None:
    pipe = type(name, (), {})()
    with pytest.raises(RequestError, match=f"{name}: no swap helps .*{reason}"):
        check_fit(pipe, small)


def test_all_pipelines_of_the_table_are_diffusers_own() -> None:
    import diffusers

    from integrations.stable_diffusion import _hosts

    for row in _hosts():
        for name in row["pipelines"]:
            assert hasattr(diffusers, name), name
