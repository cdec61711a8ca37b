"""What people do with a pipeline beside drawing from it; each manner is checked on tiny pipelines of every host.

A manner is a function of a pipeline, an encoder that fits it, and a function that draws; its docstring is its row in
docs/hosts.md.
"""

import copy
import inspect
import tempfile
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor

from integrations.stable_diffusion import slots_of, swap_text_encoder
from negclip_core.clip import Clip

NEGATED, PLAIN = "a street with no cars", "a street with a car"
_TEXTS = ("prompt_embeds", "negative_prompt_embeds")
_POOLED = ("pooled_prompt_embeds", "negative_pooled_prompt_embeds")


class Subject(NamedTuple):
    """A host's pipeline, an encoder for its first slot, and how pictures are drawn with such a pipeline."""

    pipe: Any
    encoder: Clip
    draw: Callable[..., Tensor]  # draw(pipe, prompts, **options), the same noise each time


class Unavailable(Exception):
    """The host's own pipelines have no such thing, or cannot do it without a swap either."""


def _variant(subject: Subject, kind: str, **parts: Any) -> Subject:
    """With another pipeline of the same host around the same models, such as its "Img2Img"."""
    import diffusers

    stem = type(subject.pipe).__name__.removesuffix("Pipeline")
    pipe = getattr(diffusers, f"{stem}{kind}Pipeline").from_pipe(subject.pipe, **parts)
    pipe.set_progress_bar_config(disable=True)
    return subject._replace(pipe=pipe)


def _options(subject: Subject) -> set[str]:
    return set(inspect.signature(type(subject.pipe).__call__).parameters)


def _denoiser(subject: Subject) -> str:
    return "unet" if hasattr(subject.pipe, "unet") else "transformer"


def _obeys(subject: Subject, prompt: str = NEGATED, **options: Any) -> None:
    """The new encoder reads a negated prompt, the host's own every other, and afterwards all is as before."""
    before = {text: subject.draw(subject.pipe, text, **options) for text in (prompt, PLAIN)}
    with swap_text_encoder(subject.pipe, subject.encoder):
        assert not torch.equal(subject.draw(subject.pipe, prompt, **options), before[prompt])
        assert torch.equal(subject.draw(subject.pipe, PLAIN, **options), before[PLAIN])
    assert torch.equal(subject.draw(subject.pipe, prompt, **options), before[prompt])


def _tensors(pipe: Any) -> dict[str, Tensor]:
    """Every parameter and buffer of a pipeline, by its module's name and its own."""
    return {
        f"{module}.{name}": tensor
        for module, part in pipe.components.items()
        if isinstance(part, torch.nn.Module)
        for name, tensor in [*part.named_parameters(), *part.named_buffers()]
    }


def restores(subject: Subject) -> None:
    """`with` and `restore()`: every parameter and buffer of the host is what and where it was"""
    tensors = _tensors(subject.pipe)
    bits = {name: tensor.detach().clone() for name, tensor in tensors.items()}
    _obeys(subject)
    swap = swap_text_encoder(subject.pipe, subject.encoder)
    swap.restore()
    now = _tensors(subject.pipe)
    assert {name: id(tensor) for name, tensor in now.items()} == {
        name: id(tensor) for name, tensor in tensors.items()
    }
    assert all(torch.equal(tensor, bits[name]) for name, tensor in now.items())


def half(subject: Subject) -> None:
    """float16 and bfloat16: the new encoder takes the host's dtype"""
    for dtype in (torch.float16, torch.bfloat16):
        pipe = copy.deepcopy(subject.pipe).to(dtype)
        _obeys(subject._replace(pipe=pipe))


def from_pretrained(subject: Subject) -> None:
    """`text_encoder=` of `from_pretrained`: the tower by itself, without the gate"""
    slot = slots_of(subject.pipe)[0]
    own = getattr(subject.pipe, slot.module)
    tower = subject.encoder.text_encoder(slot.kind.endswith("WithProjection"), own.config.num_hidden_layers)
    empty = {name: None for name, part in subject.pipe.components.items() if part is None}
    with tempfile.TemporaryDirectory() as folder:
        subject.pipe.save_pretrained(folder)
        # Compared with a pipeline that was loaded too: where weights lie in memory shows in the last digits.
        loaded, other = (
            type(subject.pipe).from_pretrained(folder, **empty, **parts)
            for parts in ({}, {slot.module: tower})
        )
    for pipe in (loaded, other):
        pipe.set_progress_bar_config(disable=True)
    with swap_text_encoder(loaded, subject.encoder, gate=False):
        assert torch.equal(subject.draw(loaded, NEGATED), subject.draw(other, NEGATED))


def from_pipe(subject: Subject) -> None:
    """`from_pipe`: a pipeline made of a swapped one is swapped too"""
    with swap_text_encoder(subject.pipe, subject.encoder):
        other = type(subject.pipe).from_pipe(subject.pipe)
        other.set_progress_bar_config(disable=True)
        assert torch.equal(subject.draw(other, NEGATED), subject.draw(subject.pipe, NEGATED))


def img2img(subject: Subject) -> None:
    """image to image"""
    _obeys(_variant(subject, "Img2Img"), image=torch.zeros(1, 3, 16, 16), strength=1.0)


def inpainting(subject: Subject) -> None:
    """inpainting"""
    picture, mask = torch.zeros(1, 3, 16, 16), torch.ones(1, 1, 16, 16)
    _obeys(_variant(subject, "Inpaint"), image=picture, mask_image=mask, strength=1.0)


def controlnet(subject: Subject) -> None:
    """ControlNet"""
    import diffusers

    if _denoiser(subject) == "unet":
        unet = subject.pipe.unet
        control = diffusers.ControlNetModel.from_unet(unet, conditioning_embedding_out_channels=(4, 4))
        _obeys(_variant(subject, "ControlNet", controlnet=control), image=torch.zeros(1, 3, 16, 16))
        return
    kinds = {"StableDiffusion3Pipeline": "SD3", "FluxPipeline": "Flux"}
    kind = getattr(diffusers, f"{kinds[type(subject.pipe).__name__]}ControlNetModel")
    control = kind.from_config({**subject.pipe.transformer.config, "num_layers": 1})
    _obeys(_variant(subject, "ControlNet", controlnet=control), control_image=torch.zeros(1, 3, 16, 16))


def ip_adapter(subject: Subject) -> None:
    """IP-Adapter"""
    if _denoiser(subject) != "unet":
        raise Unavailable("not tried")
    image_width, tokens, unet = 24, 4, subject.pipe.unet
    width = unet.config.cross_attention_dim
    torch.manual_seed(0)
    normed = torch.nn.LayerNorm(width).state_dict(prefix="norm.")
    projected = torch.nn.Linear(image_width, tokens * width).state_dict(prefix="proj.")
    # Their numbers are the odd ones, as every second attention of a UNet reads the text.
    crossed = [name.removesuffix(".processor") for name in unet.attn_processors if "attn2" in name]
    weights = {
        f"{2 * i + 1}.to_{part}_ip.weight": torch.randn_like(getattr(unet.get_submodule(name), f"to_{part}").weight)
        for i, name in enumerate(crossed) for part in "kv"
    }  # fmt: skip
    adapter = {"image_proj": {**projected, **normed}, "ip_adapter": weights}
    subject.pipe.load_ip_adapter(adapter, subfolder="", weight_name="", image_encoder_folder=None)
    looked = torch.randn(1, 1, image_width)
    options: dict[str, Any] = {"ip_adapter_image_embeds": [torch.cat([torch.zeros_like(looked), looked])]}
    _obeys(subject, **options)
    with_image = subject.draw(subject.pipe, NEGATED, **options)
    subject.pipe.set_ip_adapter_scale(0.0)
    assert not torch.equal(subject.draw(subject.pipe, NEGATED, **options), with_image)


def batches(subject: Subject) -> None:
    """batches that mix prompts with and without negation"""
    prompts = [NEGATED, PLAIN]
    before = subject.draw(subject.pipe, prompts)
    with swap_text_encoder(subject.pipe, subject.encoder):
        after = subject.draw(subject.pipe, prompts)
    assert not torch.equal(after[0], before[0])
    assert torch.equal(after[1], before[1])


def many(subject: Subject) -> None:
    """`num_images_per_prompt`"""
    _obeys(subject, num_images_per_prompt=2)


def empty_negative_prompt(subject: Subject) -> None:
    """an empty negative prompt"""
    if "true_cfg_scale" in _options(subject):
        _obeys(subject, negative_prompt="", true_cfg_scale=2.0)
    else:
        _obeys(subject, negative_prompt="")


def embeddings(subject: Subject) -> None:
    """embeddings made beforehand with `encode_prompt` (as compel and sd_embed weight them)"""
    with swap_text_encoder(subject.pipe, subject.encoder):
        expected = subject.draw(subject.pipe, NEGATED)
        options = _embedded(subject.pipe)
    torch.testing.assert_close(subject.draw(subject.pipe, None, **options), expected)


def _embedded(pipe: Any) -> dict[str, Any]:
    kind = type(pipe).__name__
    names: tuple[str, ...]
    if kind.startswith("StableDiffusion3"):
        found = pipe.encode_prompt(NEGATED, NEGATED, NEGATED)
        names = _TEXTS + _POOLED
    elif kind.startswith("StableDiffusionXL"):
        found = pipe.encode_prompt(NEGATED)
        names = _TEXTS + _POOLED
    elif kind.startswith("Flux"):
        found = pipe.encode_prompt(NEGATED, NEGATED, max_sequence_length=16)[:2]
        names = (_TEXTS[0], _POOLED[0])
    else:
        found = pipe.encode_prompt(NEGATED, "cpu", 1, True)
        names = _TEXTS
    return dict(zip(names, found, strict=True))


def clip_skip(subject: Subject) -> None:
    """`clip_skip`"""
    if "clip_skip" not in _options(subject):
        raise Unavailable("has no clip_skip")
    try:
        subject.draw(subject.pipe, PLAIN, clip_skip=1)
    except AttributeError as error:
        raise Unavailable("diffusers' own fails with this transformers") from error
    _obeys(subject, clip_skip=1)


def model_offload(subject: Subject) -> None:
    """`enable_model_cpu_offload`"""
    subject.pipe.enable_model_cpu_offload(device="cpu")
    _obeys(subject)


def compiled(subject: Subject) -> None:
    """`torch.compile`d UNet or transformer"""
    name = _denoiser(subject)
    setattr(subject.pipe, name, torch.compile(getattr(subject.pipe, name), backend="eager"))
    _obeys(subject)


def lora(subject: Subject) -> None:
    """LoRA: unload and load again"""
    from peft import LoraConfig

    denoiser = getattr(subject.pipe, _denoiser(subject))

    def tuned() -> Tensor:
        torch.manual_seed(0)
        denoiser.add_adapter(LoraConfig(r=2, target_modules=["to_q", "to_v"], init_lora_weights=False))
        return subject.draw(subject.pipe, NEGATED)

    before = subject.draw(subject.pipe, NEGATED)
    with swap_text_encoder(subject.pipe, subject.encoder):
        plain = subject.draw(subject.pipe, NEGATED)
        first = tuned()
        assert not torch.equal(first, plain)
        subject.pipe.unload_lora_weights()
        assert torch.equal(subject.draw(subject.pipe, NEGATED), plain)
        assert torch.equal(tuned(), first)
        subject.pipe.unload_lora_weights()
    assert torch.equal(subject.draw(subject.pipe, NEGATED), before)


def textual_inversion(subject: Subject) -> None:
    """textual inversion, loaded before the swap"""
    if not hasattr(subject.pipe, "load_textual_inversion"):
        raise Unavailable("has no load_textual_inversion")
    slot = slots_of(subject.pipe)[0]
    word = torch.randn(64, generator=torch.Generator().manual_seed(1))
    subject.pipe.load_textual_inversion(
        {"<mine>": word},
        tokenizer=getattr(subject.pipe, slot.tokenizer),
        text_encoder=getattr(subject.pipe, slot.module),
    )
    _obeys(subject, prompt=f"a <mine> {NEGATED}")
    with swap_text_encoder(subject.pipe, subject.encoder):
        with_word = subject.draw(subject.pipe, f"a <mine> {NEGATED}")
        assert not torch.equal(with_word, subject.draw(subject.pipe, f"a {NEGATED}"))


MANNERS: dict[str, Callable[[Subject], None]] = {
    manner.__name__: manner
    for manner in (restores, half, from_pretrained, from_pipe, img2img, inpainting, controlnet, ip_adapter, batches, many,
                   empty_negative_prompt, embeddings, clip_skip, model_offload, compiled, lora, textual_inversion)
}  # fmt: skip
