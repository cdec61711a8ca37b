"""Captions whose negation comes first: "no cars and no people, a street with a bench".

Attention is causal: only where nothing stands before the negation can every word that a host reads say what is not there.
People seldom write so, and a tower that seldom meets it is unsure of it.
"""

import torch
from torch import Tensor

from negclip_core.captions.names import plural
from negclip_core.training.captions_file import is_had
from negclip_core.training.data import TrainingSet
from negclip_core.training.text import tokenise

__all__ = ["negation_first"]


def negation_first(data: TrainingSet, rows: Tensor, share: float) -> Tensor:
    """Token ids of the negated captions of some rows, a random share of them with the negation first.

    A caption stays as it is where it says nothing else, denies what something has ("hat of man") or nothing that is
    known, or would not fit into the context.

    Returns:
        int64 [len(rows), context], where a step computes.
    """
    negated = data.ids("negated", rows)
    if not share:  # without a draw: a recipe that has no use for it goes on as it did
        return negated
    context = negated.shape[1]
    for row in torch.nonzero(torch.rand(len(rows)) < share)[:, 0].tolist():
        denied = data.absent[rows[row : row + 1]][0]
        things = [data.absent.names[thing] for thing in torch.nonzero(denied)[:, 0].tolist()]
        rest = data.affirmative[rows[row : row + 1]][0]
        end = int(rest.argmax())
        if end == 1 or not things or any(map(is_had, things)):
            continue
        said = " and ".join(f"no {plural(thing)}" for thing in things) + ","
        first = tokenise(data.tokenizer, [said])[0]
        words = torch.cat([first[: int(first.argmax())], rest[1 : end + 1]])
        if len(words) <= context:
            text = torch.cat([words, words[-1:].expand(context - len(words))])
            negated[row] = text.to(negated)
    return negated
