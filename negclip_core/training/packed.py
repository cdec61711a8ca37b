"""A text tower over a batch of texts laid end to end: nothing is computed for what stands after an end token.

Attention is causal and pooling is at the end token, so what comes after it cannot matter; the public script computes it
all the same, 77 positions a caption. Here the tokens of all texts are the rows of one matrix, sorted by the texts'
lengths, and only attention, which looks across tokens, sees them as texts: those of one length together. In the last
block nothing but the end tokens' states is asked for. A tower that reads its padding gets it, at open_clip's own hands.
"""

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
        ids: int [n, length]; the end token has the highest id of its row. A tower that reads its padding needs its whole
            context.
    """
    padded = reads_padding(model)
    encode = type(model).encode_text if padded else _pooled
    lengths, order = (ids.argmax(1) + 1).sort(stable=True)
    if padded:
        lengths = torch.full_like(lengths, ids.shape[1])
    parts = ids[order].split(_rows_at_once(lengths))
    if len(parts) > 1 and torch.is_grad_enabled():
        rows = [checkpoint(encode, model, part, use_reentrant=False) for part in parts]
    else:
        rows = [encode(model, part) for part in parts]
    return torch.cat(rows)[order.argsort()]


def _rows_at_once(lengths: Tensor) -> list[int]:
    """How many texts of these lengths, ascending, are encoded at once, part by part."""
    part = (lengths.cumsum(0) - 1) // _TOKENS_AT_ONCE
    return part.unique_consecutive(return_counts=True)[1].tolist()


def _pooled(model: CLIP, ids: Tensor) -> Tensor:
    """As `pooled`, of texts in the order of their lengths."""
    lengths = ids.argmax(1) + 1
    used = torch.arange(ids.shape[1], device=ids.device)[None] < lengths[:, None]
    positions = used.nonzero()[:, 1]
    ends = lengths.cumsum(0) - 1
    # How many texts there are of each length that occurs.
    groups = [
        (int(n), int(length))
        for length, n in zip(*lengths.unique_consecutive(return_counts=True), strict=True)
    ]
    # Not by an index, whose gradient sums the rows of one position in whatever order the threads come.
    x = model.token_embedding(ids[used]) + F.embedding(positions, model.positional_embedding)
    *blocks, last = model.transformer.resblocks
    for block in blocks:
        x = x + block.ls_1(_attend(block, x, groups))
        x = x + block.ls_2(block.mlp(block.ln_2(x)))
    x = x[ends] + last.ls_1(_attend(last, x, groups, ends))
    x = x + last.ls_2(last.mlp(last.ln_2(x)))
    return model.ln_final(x) @ model.text_projection


def _attend(
    block: ResidualAttentionBlock, x: Tensor, groups: list[tuple[int, int]], ends: Tensor | None = None
) -> Tensor:
    """A block's attention over tokens [t, width] of texts in `groups` (how many, how long).

    With `ends`, the rows of the end tokens, only theirs: [n, width].
    """
    layer = block.attn
    heads, width = layer.num_heads, layer.embed_dim
    normed = block.ln_1(x)
    if ends is None:
        queries, *others = F.linear(normed, layer.in_proj_weight, layer.in_proj_bias).split(width, -1)
    else:
        weights, biases = (
            part.split([width, 2 * width]) for part in (layer.in_proj_weight, layer.in_proj_bias)
        )
        queries = F.linear(normed[ends], weights[0], biases[0])
        others = F.linear(normed, weights[1], biases[1]).split(width, -1)
    tokens = [count * length for count, length in groups]
    asked = tokens if ends is None else [count for count, _ in groups]
    out = []
    for (count, _), query, key, value in zip(
        groups, queries.split(asked), *(each.split(tokens) for each in others), strict=True
    ):
        q, k, v = (
            part.view(count, -1, heads, width // heads).transpose(1, 2) for part in (query, key, value)
        )
        seen = F.scaled_dot_product_attention(q, k, v, is_causal=ends is None)
        out.append(seen.transpose(1, 2).reshape(-1, width))
    return layer.out_proj(torch.cat(out))
