"""COCO captions and instances."""

from typing import Any

from negclip_core.world.catalog import ATTRIBUTES, KINDS, Split, catalog, split_of
from negclip_core.world.exports.pictures import SIZE, Drawn, stream
from negclip_core.world.language import caption, preposition
from negclip_core.world.scenes import Scene

__all__ = ["CAPTIONS", "captions", "category", "instance_id", "instances"]

CAPTIONS = 5  # a picture
_MOST_THINGS = 100  # more than a picture holds, so that things can be numbered across pictures


def category(kind: str) -> int:
    """COCO's number of a kind of thing, from 1."""
    return KINDS.index(kind) + 1


def instance_id(drawn: Drawn, index: int) -> int:
    """The number of one thing among all pictures' things."""
    return drawn.image_id * _MOST_THINGS + index


def _images(pictures: list[Drawn], split: Split) -> list[dict[str, Any]]:
    return [
        {
            "id": drawn.image_id, "file_name": drawn.file_name, "height": SIZE, "width": SIZE,
            "place": drawn.scene.place, "where": f"{preposition(drawn.scene.place)} the {drawn.scene.place}",
            "held_out": _held_out(drawn.scene, split),
        }
        for drawn in pictures
    ]  # fmt: skip


def _held_out(scene: Scene, split: Split) -> list[str]:
    """What captions must not call absent, because it belongs to another split: kinds in this place, "man with hat"."""
    kinds = [k for k in KINDS if split_of("place_kind", scene.place, k) not in ("train", split)]
    genders = ("man", "woman")
    worn = [(n, a) for n in genders for a in ATTRIBUTES]
    kinds += genders if "person" in kinds else ()
    return kinds + [
        f"{n} with {a}" for n, a in worn if split_of("noun_attribute", n, a) not in ("train", split)
    ]


def captions(pictures: list[Drawn], split: Split, seed: int) -> dict[str, Any]:
    """COCO captions JSON: five captions a picture, each of which mentions part of it."""
    annotations: list[dict[str, Any]] = []
    for drawn in pictures:
        rng = stream("captions", split, seed, drawn.image_id)
        for _ in range(CAPTIONS):
            text = caption(drawn.scene, rng)
            annotations.append({"image_id": drawn.image_id, "id": len(annotations) + 1, "caption": text})
    return {"info": _info(split, seed), "images": _images(pictures, split), "annotations": annotations}


def instances(pictures: list[Drawn], split: Split, seed: int) -> dict[str, Any]:
    """COCO instances JSON; colour, gender, attributes and seat (an instance's id) are further keys."""
    return {
        "info": _info(split, seed),
        "images": _images(pictures, split),
        "categories": [
            {
                "id": category(kind),
                "name": kind,
                "plural": entry["plural"],
                "supercategory": "person" if kind == "person" else "thing",
            }
            for kind, entry in catalog()["kinds"].items()
        ],
        "attributes": {
            name: {k: e[k] for k in ("article", "verb")} for name, e in catalog()["attributes"].items()
        },
        "annotations": [_instance(drawn, i) for drawn in pictures for i in range(len(drawn.scene.things))],
    }


def _instance(drawn: Drawn, index: int) -> dict[str, Any]:
    thing, runs = drawn.scene.things[index], drawn.runs[index]
    return {
        "id": instance_id(drawn, index), "image_id": drawn.image_id, "category_id": category(thing.kind),
        "bbox": drawn.boxes[index], "area": float(sum(runs[1::2])), "iscrowd": 0,
        "segmentation": {"size": [SIZE, SIZE], "counts": runs},
        "colour": thing.colour, "gender": thing.gender, "attributes": sorted(thing.attributes),
        "seat": None if thing.sits_on is None else instance_id(drawn, thing.sits_on),
    }  # fmt: skip


def _info(split: Split, seed: int) -> dict[str, Any]:
    return {"description": "negclip's drawn world", "version": "1.0", "split": split, "seed": seed}
