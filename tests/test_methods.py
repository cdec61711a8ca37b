"""Methods that act inside the denoiser: on the rows that deny something, as their papers say, and undone afterwards."""

from pathlib import Path
from typing import Any

import pytest
import torch
from hosts import make_host  # type: ignore[import-not-found]  # pytest puts tests/ on the path
from torch import Tensor

from integrations.arms import Arm
from integrations.denied import Denied, cross_attentions, read_denied
from integrations.methods import find_method, guided, nag, perp_neg, vsf
from negclip_core.errors import RequestError

NEGATED, PLAIN, REST = "a street with no cars", "a street with a car", "a street"
ROUNDING = 1e-3
INSIDE = ("nag", "perp-neg", "vsf")
UNETS = ("Stable Diffusion 1.x", "Stable Diffusion XL")


@pytest.fixture(scope="module", params=UNETS)
def pipe(request: pytest.FixtureRequest, clip_folder: Path, wide_clip_folder: Path) -> Any:
    return make_host(request.param, clip_folder, wide_clip_folder)


def draw(pipe: Any, method: str | None, prompts: list[str], **options: Any) -> Tensor:
    """Latents float [n, c, h, w], of the host by itself where no method is named."""
    arm = Arm.vanilla() if method is None else Arm.of(method, None)
    arm.check(pipe)
    settings = {"num_inference_steps": 2, "height": 16, "width": 16, "output_type": "latent", **options}
    with arm.applied(pipe, **settings) as drawing:
        # With output_type="latent" the pictures are tensors.
        return torch.stack([torch.as_tensor(latent) for latent in drawing(prompts, range(len(prompts)))])


@pytest.mark.parametrize("method", INSIDE)
def test_it_acts_on_what_denies_and_on_nothing_else(pipe: Any, method: str) -> None:
    before = draw(pipe, None, [REST, PLAIN])
    assert torch.equal(draw(pipe, method, [REST, PLAIN]), before), "nothing denied, nothing changed"
    mixed = draw(pipe, method, [NEGATED, PLAIN])
    assert not torch.allclose(mixed[0], before[0], atol=1e-2)
    torch.testing.assert_close(mixed[1], before[1], rtol=ROUNDING, atol=ROUNDING)
    assert torch.equal(draw(pipe, None, [REST, PLAIN]), before), "undone"


@pytest.mark.parametrize("method", INSIDE)
def test_a_batch_draws_what_single_prompts_draw(pipe: Any, method: str) -> None:
    together = draw(pipe, method, [NEGATED, PLAIN])
    torch.testing.assert_close(together[:1], draw(pipe, method, [NEGATED]), rtol=ROUNDING, atol=ROUNDING)


@pytest.mark.parametrize("method", ["both", "negative-prompt"])
def test_what_denies_nothing_is_drawn_without_a_negative_prompt(pipe: Any, method: str) -> None:
    assert torch.equal(draw(pipe, method, [PLAIN]), draw(pipe, None, [PLAIN]))
    assert torch.equal(draw(pipe, method, [PLAIN, REST]), draw(pipe, None, [PLAIN, REST]))
    # Stable Diffusion XL reads zeros where there is none, also beside a prompt that has one.
    mixed, host = draw(pipe, method, [NEGATED, PLAIN]), draw(pipe, None, [NEGATED, PLAIN])
    assert torch.equal(mixed[1], host[1])
    assert not torch.allclose(mixed[0], host[0], atol=1e-2)
    torch.testing.assert_close(mixed[:1], draw(pipe, method, [NEGATED]), rtol=ROUNDING, atol=ROUNDING)
    assert draw(pipe, method, [NEGATED, PLAIN], guidance_scale=1.0).isfinite().all()


@pytest.mark.parametrize("method", INSIDE)
def test_without_guidance(pipe: Any, method: str) -> None:
    rest = draw(pipe, None, [REST], guidance_scale=1.0)
    moved = not torch.allclose(draw(pipe, method, [NEGATED], guidance_scale=1.0), rest, atol=1e-2)
    assert moved != find_method(method).NEEDS_GUIDANCE


@pytest.mark.parametrize("method", INSIDE)
def test_it_is_undone_when_the_pipeline_fails(pipe: Any, method: str) -> None:
    with pytest.raises(KeyError), guided(find_method(method), pipe, [NEGATED]):
        raise KeyError
    hooked = [name for name, module in pipe.unet.named_modules()
              if module._forward_hooks or module._forward_pre_hooks]  # fmt: skip
    assert not hooked


@pytest.mark.parametrize("host", ["Stable Diffusion 3.x", "FLUX.1"])
def test_hosts_without_a_unet_are_refused(host: str, clip_folder: Path, wide_clip_folder: Path) -> None:
    pipe = make_host(host, clip_folder, wide_clip_folder)
    for method in INSIDE:
        with pytest.raises(RequestError, match=r"the host has none; expected Stable Diffusion 1\.x"):
            Arm.of(method, None).check(pipe)


def test_what_is_denied_is_told_by_its_tokens(pipe: Any) -> None:
    denied = read_denied(pipe, [NEGATED, PLAIN])
    assert denied.rows.tolist() == [True, False]
    assert denied.words.sum(1).tolist() == [1, 0], "'cars' is one token of this tokenizer"
    assert denied.words[0, 1]


def test_nag_extrapolates_normalizes_and_blends() -> None:
    nothing = torch.empty(3, 0)
    denied = Denied(nothing, None, nothing, rows=torch.tensor([True, True, False]))
    wanted = torch.tensor([[[1.0, 0.0]], [[1.0, 1.0]], [[1.0, 0.0]]])
    away = torch.tensor([[[0.0, 0.5]], [[1.0, 1.0]], [[0.0, 0.5]]])
    moved = nag._guide(wanted, away, denied)
    # 5 z+ - 4 z- = (5, -2) has L1 norm 7, brought to 2.5 times the norm of z+, then half of each.
    torch.testing.assert_close(moved[0, 0], torch.tensor([2.5 * 5 / 7 / 2 + 0.5, -2.5 * 2 / 7 / 2]))
    torch.testing.assert_close(moved[1:], wanted[1:])


def test_perp_neg_takes_away_only_what_is_perpendicular() -> None:
    away, wanted = torch.randn(2, 4, 3, 3), torch.randn(2, 4, 3, 3)
    rest = perp_neg._perpendicular(away, wanted)
    assert (rest * wanted).sum((1, 2, 3)).abs().max() < 1e-4
    torch.testing.assert_close(perp_neg._perpendicular(3 * wanted, wanted), torch.zeros_like(wanted))


def test_vsf_is_attention_over_both_with_flipped_values(pipe: Any) -> None:
    attention, denied = cross_attentions(pipe.unet)[0], read_denied(pipe, [NEGATED])
    hidden = torch.randn(1, 5, attention.to_q.in_features)
    texts = torch.randn(1, 77, attention.to_k.in_features)
    with torch.no_grad(), guided(vsf, pipe, [NEGATED]):
        found = attention(hidden, encoder_hidden_states=texts)
    away = denied.states[:, denied.words[0]]
    with torch.no_grad():
        query = attention.head_to_batch_dim(attention.to_q(hidden))
        keys = attention.head_to_batch_dim(attention.to_k(torch.cat([texts, away], 1)))
        flipped = torch.cat([attention.to_v(texts), -vsf.SCALE * attention.to_v(away)], 1)
        weights = (query @ keys.mT * attention.scale).softmax(-1)
        expected = attention.batch_to_head_dim(weights @ attention.head_to_batch_dim(flipped))
        expected = attention.to_out[0](expected)
    torch.testing.assert_close(found, expected, rtol=ROUNDING, atol=ROUNDING)


def test_perp_neg_asks_the_unet_for_what_is_denied(pipe: Any) -> None:
    denied, unet = read_denied(pipe, [NEGATED]), pipe.unet
    latent, texts = torch.randn(1, 4, 8, 8), torch.randn(2, *denied.states.shape[1:])

    def ask(latents: Tensor, states: Tensor, pooled: Tensor | None) -> Tensor:
        more = {} if pooled is None else {"text_embeds": pooled, "time_ids": torch.zeros(len(states), 6)}
        return unet(latents, torch.tensor(1.0), states, added_cond_kwargs=more, return_dict=False)[0]

    own = None if denied.pooled is None else torch.randn(2, denied.pooled.shape[1])
    with torch.no_grad(), guided(perp_neg, pipe, [NEGATED]):
        # As diffusers calls it: text states and added conditions by name.
        more = {} if own is None else {"text_embeds": own, "time_ids": torch.zeros(2, 6)}
        found = unet(latent.repeat(2, 1, 1, 1), torch.tensor(1.0), encoder_hidden_states=texts,
                     added_cond_kwargs=more, return_dict=False)[0]  # fmt: skip
    with torch.no_grad():
        free, wanted = ask(latent.repeat(2, 1, 1, 1), texts, own)
        away = ask(latent, denied.states, denied.pooled)[0]
    apart = perp_neg._perpendicular((away - free)[None], (wanted - free)[None])[0]
    torch.testing.assert_close(
        found, torch.stack([free, wanted - perp_neg.WEIGHT * apart]), rtol=ROUNDING, atol=ROUNDING
    )
