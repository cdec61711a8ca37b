"""The tokenizer whose files lie beside a CLIP's weights."""

from itertools import chain
from pathlib import Path

import torch
from torch import Tensor

from negclip_core.errors import RequestError, reason_of

__all__ = ["FolderTokenizer"]


class FolderTokenizer:
    """From n texts to int64 [n, context]: start, text, end, padding; cut to fit. Raises RequestError where it cannot be read."""

    def __init__(self, folder: Path, context: int, vocabulary: int) -> None:
        from transformers import CLIPTokenizer

        try:
            self.inner = CLIPTokenizer.from_pretrained(folder, local_files_only=True)
        except Exception as error:  # the reader is compiled, and raises what it likes
            raise RequestError(f"{folder}: its tokenizer cannot be read ({reason_of(error)})") from error
        if (size := len(self.inner)) > vocabulary:
            raise RequestError(
                f"{folder}: its tokenizer has {size} tokens, the text tower {vocabulary}; the two do not belong together"
            )
        if self.inner.pad_token_id is None:
            raise RequestError(f"{folder}: its tokenizer has no token to pad with; fetch it again")
        self.context = context
        self.inner.backend_tokenizer.enable_truncation(context)

    def __call__(self, texts: list[str]) -> Tensor:
        # What transformers does around it, masks and padding list by list, takes longer than splitting into tokens.
        rows = [found.ids for found in self.inner.backend_tokenizer.encode_batch(list(texts))]
        lengths = torch.tensor([len(row) for row in rows])
        ids = torch.full((len(rows), self.context), self.inner.pad_token_id)
        words = torch.arange(self.context)[None] < lengths[:, None]
        ids[words] = torch.tensor(list(chain.from_iterable(rows)))
        return ids
