"""What a training run reads: captions as token ids, images as rows of a feature table, and which are held back."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from negclip_core.training.features import Features
from negclip_core.training.tables import CaptionTables, ThingTable, TokenTable
from negclip_core.training.text import Tokenizer, tokenise

__all__ = ["TrainingSet", "split_rows"]

_CPU = torch.device("cpu")


@dataclass(frozen=True)
class TrainingSet:
    """All that objectives may read, a row a caption. Tables lie in the host's memory, rows and pictures are counted there."""

    features: Tensor  # float32 [images, embed_dim], unit length
    image: Tensor  # int64 [rows], row of `features`; -1 where the image could not be read
    picture: Tensor  # int64 [rows], number of the image among all that captions are about
    caption: TokenTable
    negated: TokenTable
    affirmative: TokenTable
    asserted: TokenTable
    holds: Tensor  # bool [rows]; whether the image lacks what is denied
    absent: ThingTable  # what each caption denies
    training: Tensor  # bool [rows]; False for those that are held back for validation
    empty: Tensor  # int32 [1, context], the prompt ""
    tokenizer: Tokenizer
    device: torch.device = _CPU  # where a step computes

    @classmethod
    def make(
        cls,
        captions: CaptionTables,
        features: Features,
        tokenizer: Tokenizer,
        padded: bool = False,
        device: torch.device = _CPU,
        training: Tensor | None = None,
    ) -> "TrainingSet":
        """Point each caption at its image's features.

        Args:
            padded: as in `caption_tables`.
            training: int64 [n], the rows that are trained on, see `split_rows`; None: all.
        """
        may = torch.full((len(captions),), training is None)
        if training is not None:
            may[training] = True
        rows = torch.tensor([features.row.get(name, -1) for name in captions.images], dtype=torch.long)
        return cls(
            features=features.table,
            image=rows[captions.image],
            picture=captions.image,
            caption=captions.caption,
            negated=captions.negated,
            affirmative=captions.affirmative,
            asserted=captions.asserted,
            holds=captions.holds,
            absent=captions.absent,
            training=may,
            empty=tokenise(tokenizer, [""], padded),
            tokenizer=tokenizer,
            device=device,
        )

    def ids(self, text: str, rows: Tensor) -> Tensor:
        """Token ids of a text, one of the tables, at some rows: int64 [n, context], where a step computes."""
        table: TokenTable = getattr(self, text)
        return table[rows].long().to(self.device)

    def seen(self, images: Tensor) -> Tensor:
        """Features float32 [..., embed_dim] of images, rows of `features`, where a step computes."""
        return self.features[images].to(self.device)

    def denying(self, thing: int) -> Tensor:
        """The rows to train on that deny a thing, ascending, int64."""
        rows = self.absent.denying(thing)
        return rows[self.training[rows]]

    def pictures_of(self, thing: int) -> tuple[Tensor, Tensor]:
        """Images that are known to hold a thing, and images known to lack it: rows of `features`, ascending, int64 each.

        Known from captions to train on that deny nothing else.
        """
        rows = self.denying(thing)
        rows = rows[(self.absent.counts[rows] == 1) & (self.image[rows] >= 0)]
        holds = self.holds[rows]
        return self.image[rows[~holds]].unique(), self.image[rows[holds]].unique()


def split_rows(
    captions: CaptionTables, by: str, fraction: float = 0.2, seed: int = 42
) -> tuple[Tensor, Tensor]:
    """Rows for training and for validation.

    Args:
        by: "image" keeps all captions of an image on one side; "caption" repeats the public code's split (numpy
            shuffle, seed 42, 20 %), which lets both sides share images.
    """
    generator = np.random.RandomState(seed)
    if by == "caption":
        order = np.arange(len(captions))
        generator.shuffle(order)
        size = int(len(order) * fraction)
        return torch.from_numpy(np.sort(order[size:])), torch.from_numpy(np.sort(order[:size]))
    names = sorted(captions.images)
    generator.shuffle(names)
    held = set(names[: int(len(names) * fraction)])
    mine = torch.tensor([name in held for name in captions.images])[captions.image]
    return torch.nonzero(~mine)[:, 0], torch.nonzero(mine)[:, 0]
