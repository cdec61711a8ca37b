"""What CLIPSeg's decoder is trained on: phrases, the things in a picture that each means, and pictures of them."""

from collections import Counter
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from negclip_core.captions.phrasings import article
from negclip_core.world.drawing import draw
from negclip_core.world.referring import by_noun, referring, unmatched
from negclip_core.world.scenes import Scene
from pipelines.miniature.data import SIZE, Pictures

__all__ = ["Phrases", "Shown", "masks", "one_of", "pairs_first", "phrases_of", "shown"]

_REDRAWN = 4_000  # pictures that are drawn anew with one of several things taken away


@dataclass(frozen=True)
class Phrases:
    """Phrases, the picture each is about, and the things in it that are meant."""

    texts: list[str]
    row: Tensor  # int64 [n]
    meant: Tensor  # int64 [n], bit i: things[i] is; 0: nothing is

    @property
    def there(self) -> Tensor:
        """Whether anything is meant, bool [n]."""
        return self.meant > 0


def masks(instances: Tensor, meant: Tensor) -> Tensor:
    """Which pixels show what is meant, bool [n, side, side], of pictures' instances uint8 [n, side, side]."""
    shown = instances.long()
    return ((meant[:, None, None] >> (shown - 1).clamp(min=0)) & 1).bool() & (shown > 0)


def one_of(meant: Tensor) -> Tensor:
    """One bit of each row of int64 [n], drawn at random."""
    if not len(meant):
        return meant
    bits = (meant[:, None] >> torch.arange(int(meant.max()).bit_length())) & 1
    return 1 << torch.multinomial(bits.float(), 1)[:, 0]


def phrases_of(scenes: list[Scene], seed: int) -> Phrases:
    """One phrase for each thing that can be told from its like, one for all of a kind, one for what is not there.

    A phrase that fits several things means all of them, as PhraseCut's do: what "without a hat" is taken from is both.
    """
    rng = np.random.default_rng([seed, 61])
    found: list[tuple[str, int, int]] = []
    for row, scene in enumerate(scenes):
        for index in range(len(scene.things)):
            phrase = referring(scene, index, rng, "train", negated=False)
            if phrase is not None:
                found.append((phrase.text, row, 1 << index))
        for noun, alike in _several(scene).items():
            start = "the" if rng.random() < 0.7 else article(noun)
            found.append((f"{start} {noun}", row, sum(1 << index for index in alike)))
        missing = unmatched(scene, rng, "train", negated=False)
        if missing is not None:
            found.append((missing.text, row, 0))
    texts, rows, meant = zip(*found, strict=True)
    return Phrases(list(texts), torch.tensor(rows), torch.tensor(meant))


def _several(scene: Scene) -> dict[str, list[int]]:
    """The nouns that more than one thing of a scene has, and those things."""
    return {noun: alike for noun, alike in by_noun(scene).items() if len(alike) > 1}


def _one_less(scene: Scene, rng: np.random.Generator) -> Scene | None:
    """A scene with one of several things of a kind outside of the picture, so that nobody sits on it; else None."""
    seats = {thing.sits_on for thing in scene.things}
    spare = [i for alike in _several(scene).values() for i in alike if i not in seats]
    if not spare:
        return None
    gone = int(rng.choice(spare))
    things = [replace(t, box=(9.0, 9.0, *t.box[2:])) if i == gone else t for i, t in enumerate(scene.things)]
    return replace(scene, things=tuple(things))


@dataclass(frozen=True)
class Shown:
    """Pictures, and after them some of the first ones drawn anew with one thing less."""

    images: Tensor  # uint8 [n, side, side, 3]
    instances: Tensor  # uint8 [n, side, side]
    fewer: Tensor  # int64 [n], the row of the picture with one thing less, or -1


def shown(data: Pictures, chosen: Tensor, scenes: list[Scene], seed: int, quiet: bool) -> Shown:
    fewer = torch.full((len(chosen),), -1)
    redrawn: list[tuple[np.ndarray, np.ndarray]] = []
    for row, scene in enumerate(tqdm(scenes[:_REDRAWN], desc="drawing", disable=quiet)):
        less = _one_less(scene, np.random.default_rng([seed, 67, row]))
        if less is not None:
            fewer[row] = len(chosen) + len(redrawn)
            picture = draw(less, SIZE)
            assert picture.instances is not None
            redrawn.append((picture.image, picture.instances))
    images, instances = data.images[chosen], data.instances[chosen]
    if redrawn:
        more = [np.stack(each) for each in zip(*redrawn, strict=True)]
        images, instances = np.concatenate([images, more[0]]), np.concatenate([instances, more[1]])
    return Shown(torch.from_numpy(images), torch.from_numpy(instances), fewer)


def pairs_first(scenes: list[Scene], count: int) -> Tensor:
    """Up to `count` pictures, those with two of a kind first: only there does a phrase have to be read to its end."""
    several = [max(Counter(t.kind for t in s.things).values(), default=0) > 1 for s in scenes]
    return torch.from_numpy(np.argsort(~np.array(several), kind="stable")[:count].copy())
