"""Texts laid end to end give what the padded text tower gives, and the same gradients."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from open_clip.model import CLIP, CLIPTextCfg, CLIPVisionCfg
from torch import Tensor
from torch.nn import functional as F

from negclip_core.training import packed
from negclip_core.training.packed import pooled

TINY = {"image_size": 8, "patch_size": 8, "layers": 1, "width": 64}
LENGTHS = [
    3,
    12,
    2,
    7,
    7,
    16,
    1,
]  # of the texts, start and end token not counted; one of them fills the context


def _tower(quick_gelu: bool, scaled: bool = False, **settings: Any) -> CLIP:
    torch.manual_seed(0)
    text = CLIPTextCfg(context_length=18, vocab_size=50, width=32, heads=4, layers=3,
                       ls_init_value=0.3 if scaled else None, **settings)  # fmt: skip
    model = CLIP(16, CLIPVisionCfg(**TINY), text, quick_gelu=quick_gelu)
    # Norms and biases begin as ones and zeros, which would hide one that is left out.
    with torch.no_grad():
        for parameter in model.transformer.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    return model


def _ids(padding: int) -> Tensor:
    ids = torch.full((len(LENGTHS), 18), padding)
    for row, length in enumerate(LENGTHS):
        ids[row, 0], ids[row, length + 1] = 48, 49
        ids[row, 1 : length + 1] = torch.randint(1, 48, (length,))
    return ids


def _with_gradients(model: CLIP, encode: Callable[[], Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
    model.zero_grad()
    out = encode()
    (out * torch.linspace(-1, 1, out.numel()).view_as(out)).sum().backward()
    found = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
    return out.detach(), {name: gradient.clone() for name, gradient in found.items()}


@pytest.mark.parametrize(
    "padding", [0, 49], ids=["zeros, as OpenAI pads", "end tokens, as Stable Diffusion does"]
)
@pytest.mark.parametrize(
    ("quick_gelu", "scaled"),
    [(True, False), (False, False), (False, True)],
    ids=["OpenAI", "GELU", "layer scale"],
)
def test_packed_texts_have_the_states_and_gradients_of_padded_ones(
    quick_gelu: bool, scaled: bool, padding: int
) -> None:
    model, ids = _tower(quick_gelu, scaled), _ids(padding)
    padded, expected = _with_gradients(model, lambda: model.encode_text(ids))
    packed, gradients = _with_gradients(model, lambda: pooled(model, ids))
    torch.testing.assert_close(packed, padded, rtol=1e-5, atol=1e-5)
    assert gradients.keys() == expected.keys() and "positional_embedding" in gradients
    for name, gradient in gradients.items():
        size = max(1.0, float(expected[name].abs().max()))
        torch.testing.assert_close(gradient, expected[name], rtol=1e-4, atol=1e-5 * size, msg=name)


def test_a_batch_beyond_memory_has_the_same_gradients(monkeypatch: pytest.MonkeyPatch) -> None:
    model, ids = _tower(quick_gelu=True), _ids(49)
    kept: list[int] = []
    encode = packed._pooled

    def counted(of: CLIP, part: Tensor) -> Tensor:
        kept.append(len(part))
        return encode(of, part)

    monkeypatch.setattr(packed, "_pooled", counted)
    whole, expected = _with_gradients(model, lambda: packed.pooled(model, ids))
    assert kept == [len(ids)]  # what fits is not computed twice
    kept.clear()
    monkeypatch.setattr(packed, "_TOKENS_AT_ONCE", 20)
    with torch.no_grad():
        torch.testing.assert_close(packed.pooled(model, ids), whole)
    assert sum(kept) == len(ids)
    kept.clear()
    parts, gradients = _with_gradients(model, lambda: packed.pooled(model, ids))
    assert sum(kept) == 2 * len(ids) and max(kept) < len(ids)  # each part forward, and again on the way back
    torch.testing.assert_close(parts, whole)
    for name, gradient in gradients.items():
        size = max(1.0, float(expected[name].abs().max()))
        torch.testing.assert_close(gradient, expected[name], rtol=1e-4, atol=1e-5 * size, msg=name)


def test_parts_end_where_the_next_text_would_not_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packed, "_TOKENS_AT_ONCE", 20)
    assert packed._rows_at_once(torch.tensor([3, 5, 12])) == [3]
    assert packed._rows_at_once(torch.tensor([3, 5, 13])) == [2, 1]
    assert packed._rows_at_once(torch.tensor([10, 10, 10, 10, 20])) == [2, 2, 1]


def test_a_tower_that_reads_its_padding_gets_it(monkeypatch: pytest.MonkeyPatch) -> None:
    model, ids = _tower(quick_gelu=True, no_causal_mask=True), _ids(0)
    padded, expected = _with_gradients(model, lambda: model.encode_text(ids))
    monkeypatch.setattr(packed, "_TOKENS_AT_ONCE", 36)
    out, gradients = _with_gradients(model, lambda: packed.pooled(model, ids))
    torch.testing.assert_close(out, padded, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(
        gradients["text_projection"], expected["text_projection"], rtol=1e-4, atol=1e-4
    )


def test_in_half_precision_a_processor_has_no_kernel_and_needs_none() -> None:
    model, ids = _tower(quick_gelu=True), _ids(49)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        torch.testing.assert_close(pooled(model, ids), model.encode_text(ids), rtol=0.05, atol=0.05)


def test_the_kernel_is_told_where_texts_begin_and_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """CUDA's kernel, by what PyTorch says that it computes."""

    def attend(
        q: Tensor, k: Tensor, v: Tensor, asked: Tensor, seen: Tensor, most: int, longest: int, *,
        window_size: tuple[int, int],
    ) -> Tensor:  # fmt: skip
        assert asked.dtype == seen.dtype == torch.int32 and window_size == (-1, 0)
        assert (most, longest) == (int(asked.diff().max()), int(seen.diff().max()))
        rows = []
        for (a, b), (c, d) in zip(asked.unfold(0, 2, 1).tolist(), seen.unfold(0, 2, 1).tolist(), strict=True):
            shown = torch.ones(b - a, d - c, dtype=torch.bool).tril(d - c - (b - a))
            query, key, value = (part.transpose(0, 1) for part in (q[a:b], k[c:d], v[c:d]))
            rows.append(F.scaled_dot_product_attention(query, key, value, shown).transpose(0, 1))
        return torch.cat(rows)

    model, ids = _tower(quick_gelu=True), _ids(49)
    expected = pooled(model, ids)
    monkeypatch.setattr("torch.nn.attention.varlen.varlen_attn", attend)
    monkeypatch.setattr(packed, "_has_kernel", lambda states: True)
    torch.testing.assert_close(pooled(model, ids), expected)
