"""The swap: it fits or it is refused, it changes what it should and nothing else, and it is undone exactly."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from integrations.arms import Arm
from integrations.gate import GatedTextEncoder, negates
from integrations.methods import find_method, method_names
from integrations.stable_diffusion import check_fit, swap_text_encoder
from negclip_core.clip import Clip, load_clip
from negclip_core.errors import RequestError
from negclip_core.language import has_negation

NEGATED, PLAIN = "a street with no cars", "a street with a car"


@pytest.fixture
def pipe(pipeline_folder: Path) -> Any:
    from diffusers import StableDiffusionPipeline

    pipe = StableDiffusionPipeline.from_pretrained(pipeline_folder)
    pipe.set_progress_bar_config(disable=True)
    return pipe


@pytest.fixture(scope="module")
def encoder(other_clip_folder: Path) -> Clip:
    return load_clip(other_clip_folder)


def draw(pipe: Any, prompt: str | list[str], seed: int = 0, **options: Any) -> torch.Tensor:
    count = len(prompt) if isinstance(prompt, list) else 1
    generators = [torch.Generator().manual_seed(seed + i) for i in range(count)]
    options = {"num_inference_steps": 2, "output_type": "pt"} | options
    return pipe(prompt, generator=generators, **options).images


def test_a_negated_prompt_is_read_by_the_new_encoder(pipe: Any, encoder: Clip) -> None:
    before = draw(pipe, NEGATED)
    with swap_text_encoder(pipe, encoder):
        gated = draw(pipe, NEGATED)
    with swap_text_encoder(pipe, encoder, gate=False):
        bare = draw(pipe, NEGATED)
    assert not torch.equal(before, gated)
    # Without the gate the empty prompt of guidance is read by the new encoder as well.
    assert not torch.equal(gated, bare)
    assert torch.equal(before, draw(pipe, NEGATED))


def test_without_guidance_gated_and_bare_agree(pipe: Any, encoder: Clip) -> None:
    with swap_text_encoder(pipe, encoder):
        gated = draw(pipe, NEGATED, guidance_scale=1.0)
    with swap_text_encoder(pipe, encoder, gate=False):
        assert torch.equal(gated, draw(pipe, NEGATED, guidance_scale=1.0))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_without_negation_pictures_are_bit_for_bit_the_hosts(
    pipe: Any, encoder: Clip, dtype: torch.dtype
) -> None:
    pipe.to(dtype)
    prompts = [PLAIN, "a park", "nobel street"]
    before = draw(pipe, prompts)
    mixed_before = draw(pipe, [PLAIN, NEGATED])
    with swap_text_encoder(pipe, encoder):
        assert torch.equal(before, draw(pipe, prompts))
        mixed = draw(pipe, [PLAIN, NEGATED])
    assert torch.equal(mixed[0], mixed_before[0])
    assert not torch.equal(mixed[1], mixed_before[1])


def test_the_gate_answers_as_the_host_does(pipe: Any, encoder: Clip) -> None:
    ids = pipe.tokenizer([PLAIN, NEGATED], padding="max_length", return_tensors="pt").input_ids
    own, new = pipe.text_encoder, encoder.text_encoder()
    with swap_text_encoder(pipe, encoder), torch.no_grad():
        gated = pipe.text_encoder
        assert isinstance(gated, GatedTextEncoder)
        assert (gated.config, gated.dtype, gated.device) == (own.config, own.dtype, own.device)
        output = gated(ids, output_hidden_states=True)
        expected, other = own(ids, output_hidden_states=True), new(ids, output_hidden_states=True)
        assert type(output) is type(expected)
        for got, vanilla, swapped in (
            (output.last_hidden_state, expected.last_hidden_state, other.last_hidden_state),
            (output.pooler_output, expected.pooler_output, other.pooler_output),
            (output.hidden_states[-2], expected.hidden_states[-2], other.hidden_states[-2]),
        ):
            assert torch.equal(got[0], vanilla[0])
            assert torch.equal(got[1], swapped[1])
        as_tuple = gated(ids, return_dict=False)
        assert torch.equal(as_tuple[0], output.last_hidden_state)


def test_restore_gives_back_the_very_object(pipe: Any, encoder: Clip) -> None:
    own, config = pipe.text_encoder, dict(pipe.config)
    swap = swap_text_encoder(pipe, encoder)
    assert pipe.text_encoder is not own
    swap.restore()
    swap.restore()
    assert pipe.text_encoder is own
    assert dict(pipe.config) == config
    with pytest.raises(ZeroDivisionError), swap_text_encoder(pipe, encoder):
        raise ZeroDivisionError
    assert pipe.text_encoder is own


def test_the_swap_follows_the_pipeline_to_another_dtype(pipe: Any, encoder: Clip) -> None:
    pipe.to(torch.bfloat16)
    with swap_text_encoder(pipe, encoder):
        assert {p.dtype for p in pipe.text_encoder.parameters()} == {torch.bfloat16}
        pipe.to(torch.float32)
        assert {p.dtype for p in pipe.text_encoder.parameters()} == {torch.float32}
        draw(pipe, NEGATED)


def test_a_swap_over_a_swap_is_refused_and_a_swapped_pipeline_is_not_saved(
    pipe: Any, encoder: Clip, tmp_path: Path
) -> None:
    with swap_text_encoder(pipe, encoder):
        with pytest.raises(RequestError, match="is swapped already"):
            swap_text_encoder(pipe, encoder)
        with pytest.raises(RequestError, match="restore the host's own first"):
            pipe.save_pretrained(tmp_path / "saved")


def test_an_encoder_of_another_width_is_refused(pipe: Any, wide_clip_folder: Path) -> None:
    own = pipe.text_encoder
    with pytest.raises(
        RequestError, match="does not fit text_encoder of StableDiffusionPipeline: width 64 expected, 96"
    ):
        swap_text_encoder(pipe, load_clip(wide_clip_folder))
    assert pipe.text_encoder is own


@pytest.mark.parametrize(
    ("key", "value", "line"),
    [
        ("layers", 4, "depth 2 expected, 4 given"),
        ("vocab_size", 49408, "end token .* expected, 49407 given"),
        ("context_length", 248, "length 77 expected, 248 given"),
    ],
)
def test_other_misfits_are_named(pipe: Any, other_clip_folder: Path, key: str, value: int, line: str) -> None:
    encoder = load_clip(other_clip_folder)
    encoder.config["text_cfg"][key] = value
    with pytest.raises(RequestError, match=line):
        check_fit(pipe, encoder)


def test_vit_b_32_is_refused_by_stable_diffusion_1(pipe: Any) -> None:
    from negclip_core.checkpoints import Checkpoint

    text = {"width": 512, "layers": 12, "vocab_size": 49408, "context_length": 77, "heads": 8}
    encoder = Clip(
        "ViT-B-32", Checkpoint({}, {"embed_dim": 512, "text_cfg": text}, "openai", ""), torch.device("cpu")
    )
    pipe.text_encoder.config.hidden_size = 768
    with pytest.raises(RequestError, match="width 768 expected, 512 given"):
        check_fit(pipe, encoder)


def test_another_vocabulary_of_the_same_size_is_refused(
    pipe: Any, other_clip_folder: Path, tmp_path: Path
) -> None:
    for file in other_clip_folder.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    words = json.loads((tmp_path / "vocab.json").read_text())
    words["a</w>"], words["b</w>"] = words["b</w>"], words["a</w>"]
    (tmp_path / "vocab.json").write_text(json.dumps(words))
    with pytest.raises(RequestError, match="another vocabulary given"):
        check_fit(pipe, load_clip(tmp_path))


def test_weights_too_large_for_half_precision_are_refused(pipe: Any, other_clip_folder: Path) -> None:
    encoder = load_clip(other_clip_folder)
    encoder.checkpoint.weights["ln_final.weight"][0] = 1e6
    pipe.to(torch.float16)
    with pytest.raises(RequestError, match=r"do not fit into torch\.float16"):
        swap_text_encoder(pipe, encoder)


def test_a_pipeline_without_a_known_slot_is_refused(encoder: Clip) -> None:
    from diffusers import DDIMScheduler, DDPMPipeline, UNet2DModel

    unet = UNet2DModel(8, 3, 3, block_out_channels=(8,), norm_num_groups=4, down_block_types=("DownBlock2D",),
                       up_block_types=("UpBlock2D",))  # fmt: skip
    with pytest.raises(RequestError, match="DDPMPipeline: no slot for a text encoder is known"):
        check_fit(DDPMPipeline(unet, DDIMScheduler()), encoder)


def test_the_gate_decides_on_tokens_as_on_the_text(pipe: Any) -> None:
    texts = [
        "a street that isn't busy", "a car-free street", "a street - no cars", "a hatless man", "nobody's there",
        "a man who doesn't wear a hat", "the dog's bench", "a knot on a note", "a street, free of cars",
        "a t-shirt", "a street - a car",
    ]  # fmt: skip
    for text in texts:
        decoded = pipe.tokenizer.decode(pipe.tokenizer(text).input_ids, skip_special_tokens=True)
        assert negates(decoded) == has_negation(text), (text, decoded)


def test_methods_are_found_and_say_what_the_pipeline_is_called_with() -> None:
    assert {"encoder", "negative-prompt", "both"} <= set(method_names())
    assert find_method("encoder").arguments(NEGATED) == {"prompt": NEGATED}
    assert find_method("negative-prompt").arguments(NEGATED) == {
        "prompt": "a street",
        "negative_prompt": "cars",
    }
    assert find_method("both").arguments(NEGATED) == {"prompt": NEGATED, "negative_prompt": "cars"}
    with pytest.raises(RequestError, match="no method called 'magic': expected one of both, encoder"):
        find_method("magic")


def _rephrased(prompts: Iterable[str]) -> dict[str, str]:
    arguments = find_method("rephrased").arguments
    return {prompt: arguments(prompt)["prompt"] for prompt in prompts}


def test_what_is_denied_is_said_anew_where_it_is_denied() -> None:
    said = {
        "a park with dogs nowhere to be seen": "a park with no dogs",
        "a street devoid of cars.": "a street with no cars",
        "a park with a red bench free of dogs and cats": "a park with a red bench and no dogs and no cats",
        "a man who isn't wearing a hat in the park": "a man with no hat in the park",
        "a man without a hat and a woman with a hat": "a man with no hat and a woman with a hat",
        "a city without cars and a park without trees": "a city with no cars and a park with no trees",
        "best quality, a girl without glasses, looking at viewer": "best quality, a girl with no glasses, looking at viewer",
        "A beach without any people --ar 16:9": "A beach with no people --ar 16:9",
        "a plant is nowhere to be seen, an orange cat in a kitchen": "an orange cat in a kitchen with no plant",
        "no people, an empty beach at sunset, drone shot": "an empty beach at sunset with no people, drone shot",
        "a hatless man walks past a treeless park, at night": "a man with no hat walks past a park with no tree, at night",
        "a beach without people and with two dogs": "a beach with two dogs and no people",
        "a donut, with no hole and a lot of sugar": "a donut, with a lot of sugar and no hole",
        "there are no cars in the street": "the street with no cars",
    }  # fmt: skip
    assert _rephrased(said) == said


def test_a_prompt_is_not_said_anew_where_that_would_say_something_else() -> None:
    # Nothing else is said, nothing is denied, what is denied is no thing, a word or a weight would be lost.
    kept = [
        "there are no cars",
        "a street, with a car",
        "a man not smiling",
        "a dog that is not on the sofa",
        "a cat not using the bed",
        "a bird that is not fully visible",
        "a chair that is not used",
        "a horse without a rider jumping over a fence",
        "a park with (no trees:1.3)",
    ]
    assert _rephrased(kept) == {prompt: prompt for prompt in kept}


def test_arms_draw_in_pairs(pipe: Any, encoder: Clip) -> None:
    drawn = {}
    for arm in (
        Arm.vanilla(),
        Arm.of("encoder", encoder),
        Arm.of("negative-prompt", encoder),
        Arm.of("both", encoder),
    ):
        arm.check(pipe)
        with arm.applied(pipe, num_inference_steps=2, output_type="np") as drawing:
            drawn[arm.name] = [np.asarray(picture) for picture in drawing([NEGATED, PLAIN], [3, 4])]
    assert list(drawn) == ["vanilla", "negationclip", "negative-prompt", "both"]
    for name, (negated, plain) in drawn.items():
        assert np.array_equal(plain, drawn["vanilla"][1]), name
        assert np.array_equal(negated, drawn["vanilla"][0]) == (name == "vanilla"), name


def test_offloaded_layer_by_layer_both_towers_lie_nowhere_until_they_are_read(
    pipe: Any, encoder: Clip
) -> None:
    own = pipe.text_encoder
    words = own.get_input_embeddings().weight.clone()
    # That pictures are drawn so is in test_cuda.py: accelerate cannot offload to the processor that it computes on.
    pipe.enable_sequential_cpu_offload(device="cpu")
    with swap_text_encoder(pipe, encoder):
        towers = (own, pipe.text_encoder.encoder)
        assert all(parameter.is_meta for tower in towers for parameter in tower.parameters())
        assert all(
            hasattr(layer, "_hf_hook") for tower in towers for layer in tower.modules() if layer._parameters
        )
    assert pipe.text_encoder is own
    assert all(parameter.is_meta for parameter in own.parameters())
    pipe.remove_all_hooks()
    assert torch.equal(own.get_input_embeddings().weight, words)
