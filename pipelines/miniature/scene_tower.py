"""What a picture shows, as a point of the joint space: the teacher that stands between words and pixels.

The text tower is trained by the contrastive loss against this tower's embeddings of scenes, and the image tower is
then taught to give a picture the embedding of its scene. So neither waits for the other to see or to read well, and
the words cost minutes. It is image-side supervision that CLIP itself did not have; it knows nothing of negation: a
scene lists what is there, and the text tower alone meets words. Thrown away after training.
"""

from torch import Tensor, nn
from torch.nn import functional as F

from negclip_core.world.catalog import PLACES
from pipelines.miniature.labels import FACTS

__all__ = ["NO_PLACE", "SceneTower"]

NO_PLACE = len(PLACES)  # for a single thing, cut out of its picture
_WIDTH = 256


class SceneTower(nn.Module):
    """A sum over things (Zaheer et al. 2017), so that several of a kind and who wears what are told apart."""

    def __init__(self, embed_dim: int) -> None:
        super().__init__()
        self.thing = nn.Sequential(nn.Linear(len(FACTS), _WIDTH), nn.GELU(), nn.Linear(_WIDTH, _WIDTH))
        self.place = nn.Embedding(len(PLACES) + 1, _WIDTH)
        self.out = nn.Sequential(
            nn.LayerNorm(_WIDTH), nn.Linear(_WIDTH, _WIDTH), nn.GELU(), nn.Linear(_WIDTH, embed_dim)
        )

    def forward(self, facts: Tensor, seen: Tensor, place: Tensor) -> Tensor:
        """Unit-length embeddings float [n, embed_dim].

        Args:
            facts: bool [n, things, len(FACTS)].
            seen: bool [n, things], which of the things the picture or the crop shows.
            place: int64 [n], `NO_PLACE` for a crop.
        """
        things = self.thing(facts.float()) * seen[..., None].float()
        return F.normalize(self.out(things.sum(1) + self.place(place)), dim=-1)
