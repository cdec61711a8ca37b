"""A text tower over a batch of texts laid end to end: nothing is computed for what stands after an end token.

Attention is causal and pooling is at the end token, so what comes after it cannot matter; the public script computes it
all the same, 77 positions a caption. Here the tokens of all texts are the rows of one matrix, sorted by the texts'
lengths, and only attention, which looks across tokens, sees them as texts: those of one length together. In the last
block nothing but the end tokens' states is asked for. A tower that reads its padding gets it, at open_clip's own hands.
"""

from dataclasses import dataclass
from functools import cache
from inspect import signature

import torch
from open_clip.model import CLIP
from open_clip.transformer import ResidualAttentionBlock
from torch import Tensor
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from negclip_core.training.text import reads_padding

__all__ = ["pooled"]

_TOKENS_AT_ONCE = 16_384  # about ten gigabytes of a ViT-L/14's text tower


def pooled(model: CLIP, ids: Tensor) -> Tensor:
    """The projected states at the end tokens, float [n, embed_dim], not normalised; equal to `model.encode_text(ids)`.

    Args:
        ids: int [n, length], best in the host's memory, where their lengths are looked at; the end token has the highest id
            of its row. A tower that reads its padding needs its whole context.
    """
    padded, device = reads_padding(model), model.positional_embedding.device
    encode = _padded if padded else _pooled
    lengths, order = (ids.argmax(1) + 1).sort(stable=True)
    if padded:
        lengths = torch.full_like(lengths, ids.shape[1])
    parts = ids[order].split(_rows_at_once(lengths))
    if len(parts) > 1 and torch.is_grad_enabled():
        rows = [checkpoint(encode, model, part, use_reentrant=False) for part in parts]
    else:
        rows = [encode(model, part) for part in parts]
    return torch.cat(rows)[order.argsort().to(device)]


def _rows_at_once(lengths: Tensor) -> list[int]:
    """How many texts of these lengths, ascending, are encoded at once, part by part."""
    part = (lengths.cumsum(0) - 1) // _TOKENS_AT_ONCE
    return part.unique_consecutive(return_counts=True)[1].tolist()


def _padded(model: CLIP, ids: Tensor) -> Tensor:
    states: Tensor = model.encode_text(ids.to(model.positional_embedding.device))
    return states


@dataclass(frozen=True)
class _Texts:
    """Where texts that lie end to end begin and end, the shortest first."""

    groups: list[tuple[int, int]]  # how many texts there are of each length that occurs, and that length
    ends: Tensor  # int64 [n], the row of each end token
    starts: Tensor  # int32 [n + 1], where each begins, and where the last ends
    ordinals: Tensor  # int32 [n + 1], 0 to n: where each begins if only its end token is there

    @classmethod
    def of(cls, lengths: Tensor, device: torch.device) -> "_Texts":
        groups = zip(*(each.tolist() for each in lengths.unique_consecutive(return_counts=True)), strict=True)
        after = lengths.cumsum(0)
        starts = F.pad(after, (1, 0)).int()
        ordinals = torch.arange(len(lengths) + 1, dtype=torch.int32)
        return cls(
            [(n, length) for length, n in groups],
            *(each.to(device) for each in (after - 1, starts, ordinals)),
        )


def _pooled(model: CLIP, ids: Tensor) -> Tensor:
    """As `pooled`, of texts in the order of their lengths."""
    device = model.positional_embedding.device
    lengths = ids.argmax(1) + 1
    used = torch.arange(ids.shape[1], device=ids.device)[None] < lengths[:, None]
    positions = used.nonzero()[:, 1].to(device)
    texts = _Texts.of(lengths, device)
    # Not by an index, whose gradient sums the rows of one position in whatever order the threads come.
    x = model.token_embedding(ids[used].to(device)) + F.embedding(positions, model.positional_embedding)
    *blocks, last = model.transformer.resblocks
    for block in blocks:
        x = x + block.ls_1(_attend(block, x, texts))
        x = x + block.ls_2(block.mlp(block.ln_2(x)))
    x = x[texts.ends] + last.ls_1(_attend(last, x, texts, at_ends=True))
    x = x + last.ls_2(last.mlp(last.ln_2(x)))
    return model.ln_final(x) @ model.text_projection


def _attend(block: ResidualAttentionBlock, x: Tensor, texts: _Texts, at_ends: bool = False) -> Tensor:
    """A block's attention over tokens [t, width] of texts; `at_ends`, of the end tokens only: [n, width]."""
    layer = block.attn
    width = layer.embed_dim
    normed = block.ln_1(x)
    if not at_ends:
        queries, *others = F.linear(normed, layer.in_proj_weight, layer.in_proj_bias).split(width, -1)
    else:
        weights, biases = (
            part.split([width, 2 * width]) for part in (layer.in_proj_weight, layer.in_proj_bias)
        )
        queries = F.linear(normed[texts.ends], weights[0], biases[0])
        others = F.linear(normed, weights[1], biases[1]).split(width, -1)
    q, k, v = (each.unflatten(1, (layer.num_heads, -1)) for each in (queries, *others))
    attend = _at_once if _has_kernel(q) else _by_length
    return layer.out_proj(attend(q, k, v, texts, at_ends).flatten(1))


def _has_kernel(states: Tensor) -> bool:
    """Whether there is a kernel that takes texts of many lengths at once: CUDA's from torch 2.11 on, in half precision."""
    return states.is_cuda and states.dtype == torch.bfloat16 and _is_causal_by_window()


@cache
def _is_causal_by_window() -> bool:
    from torch.nn.attention.varlen import varlen_attn  # torch 2.10 has another form of it

    return "window_size" in signature(varlen_attn).parameters


def _at_once(q: Tensor, k: Tensor, v: Tensor, texts: _Texts, at_ends: bool) -> Tensor:
    """Causal attention of packed queries, keys and values [t, heads, head width]; `at_ends`, one query a text."""
    from torch.nn.attention.varlen import varlen_attn

    longest = texts.groups[-1][1]
    asked, most = (texts.ordinals, 1) if at_ends else (texts.starts, longest)
    # A single query stands at the end of its text, and sees all of it.
    seen = varlen_attn(q, k, v, asked, texts.starts, most, longest, window_size=(-1, 0))
    assert isinstance(seen, Tensor), "nothing beside the states was asked for"
    return seen


def _by_length(q: Tensor, k: Tensor, v: Tensor, texts: _Texts, at_ends: bool) -> Tensor:
    """The same, those of one length together."""
    tokens = [count * length for count, length in texts.groups]
    asked = [count for count, _ in texts.groups] if at_ends else tokens
    out = []
    for (count, _), *parts in zip(
        texts.groups, q.split(asked), k.split(tokens), v.split(tokens), strict=True
    ):
        query, key, value = (part.unflatten(0, (count, -1)).transpose(1, 2) for part in parts)
        seen = F.scaled_dot_product_attention(query, key, value, is_causal=not at_ends)
        out.append(seen.transpose(1, 2).flatten(0, 1))
    return torch.cat(out)
