"""How each kind of thing looks, one file per family: `SPRITES[kind](pen, thing)` paints it into its box."""

from collections.abc import Callable

from negclip_core.world.scenes import Thing
from negclip_core.world.sprites import animals, furniture, greenery, household, toys, vehicles
from negclip_core.world.sprites.pen import Pen

__all__ = ["SPRITES", "Sprite"]

Sprite = Callable[[Pen, Thing], None]

SPRITES: dict[str, Sprite] = {
    name: sprite
    for family in (animals, furniture, greenery, household, toys, vehicles)
    for name, sprite in family.SPRITES.items()
}
