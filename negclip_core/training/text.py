"""A text tower's states: what a contrastive loss reads, and what a diffusion host reads."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from open_clip.model import CLIP
from torch import Tensor

from negclip_core.errors import RequestError

__all__ = ["TextStates", "Tokenizer", "cut", "reads_padding", "says_nothing", "text_states", "tokenise"]

Tokenizer = Callable[[list[str]], Tensor]


@dataclass(frozen=True)
class TextStates:
    """One batch of texts through an open_clip text tower."""

    penultimate: Tensor  # float [n, length, width], before the last block (transformers' `hidden_states[-2]`)
    last: Tensor  # float [n, length, width], after the final layer norm (`last_hidden_state`)
    pooled: Tensor  # float [n, embed_dim], the projected state at the end token, not normalised


def reads_padding(model: CLIP) -> bool:
    """Whether what stands after the end token moves a text's embedding, as in SigLIP's towers; in CLIP's it does not.

    It does where attention looks both ways, or where the state at a fixed position is pooled.
    """
    return model.attn_mask is None or model.text_pool_type != "argmax"


def cut(ids: Tensor) -> Tensor:
    """Drop the columns after the batch's last end token: exact, since attention is causal and pooling is at the end.

    Args:
        ids: int [n, length]; the end token has the highest id of its row.
    """
    return ids[:, : int(ids.argmax(1).max()) + 1]


def says_nothing(ids: Tensor) -> Tensor:
    """Which texts int [n, length] hold no word between the start and the end token; bool [n]."""
    return ids.argmax(1) == 1


def text_states(model: CLIP, ids: Tensor, strangers: tuple[Tensor, Tensor] | None = None) -> TextStates:
    """Run the text tower over token ids int [n, length <= context]; no attention mask but the causal one.

    Args:
        strangers: bool [n, length], where words stand that are in no vocabulary, and their embeddings float
            [n, length, width].

    Raises:
        RequestError: the tower reads its padding, so that its states are none that a host reads.
    """
    if reads_padding(model):
        raise RequestError(
            "this CLIP's text tower reads its padding, as SigLIP's do, and no host reads its tokens' states; train it by "
            "embeddings alone, as the recipe paper does"
        )
    length = ids.shape[1]
    mask = model.attn_mask[:length, :length]
    x = model.token_embedding(ids)
    if strangers is not None:
        x = torch.where(strangers[0][..., None], strangers[1], x)
    x = x + model.positional_embedding[:length]
    blocks = model.transformer.resblocks
    for block in blocks[:-1]:
        x = block(x, attn_mask=mask)
    last = model.ln_final(blocks[-1](x, attn_mask=mask))
    ends = last[torch.arange(len(ids), device=ids.device), ids.argmax(1)]
    return TextStates(x, last, ends @ model.text_projection)


def tokenise(tokenizer: Tokenizer, texts: list[str], padded: bool = False) -> Tensor:
    """Token ids int32 [n, context], padded after the end token with the end token, as Stable Diffusion's tokenizer pads.

    With `padded`, for a tower that reads its padding, they stay as the tokenizer pads them.
    """
    ids = torch.cat([tokenizer(texts[i : i + 4096]) for i in range(0, len(texts), 4096)])
    if padded:
        return ids.to(torch.int32)
    ends = ids.argmax(1, keepdim=True)
    after = torch.arange(ids.shape[1])[None] > ends
    return torch.where(after, ids.gather(1, ends), ids).to(torch.int32)
