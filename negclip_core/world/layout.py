"""Where things stand: boxes such that each stays visible, and people on their seats.

Things are placed one after the other, each at the best of a few random spots; a scene too full is tried
again, smaller.
"""

from dataclasses import replace

import numpy as np

from negclip_core.world.catalog import catalog
from negclip_core.world.scenes import Box, Scene, Thing

__all__ = ["arrange", "person_size", "pose"]

# Width and height in units of the picture's side.
SIZES: dict[str, tuple[float, float]] = {
    "car": (0.46, 0.23), "bus": (0.56, 0.35), "boat": (0.46, 0.44),
    "tree": (0.34, 0.6), "plant": (0.21, 0.34),
    "bench": (0.48, 0.26), "table": (0.44, 0.27), "chair": (0.25, 0.4), "sofa": (0.6, 0.31),
    "lamp": (0.22, 0.56), "cup": (0.17, 0.14), "clock": (0.19, 0.19), "laptop": (0.26, 0.19),
    "dog": (0.31, 0.26), "cat": (0.23, 0.29), "bird": (0.24, 0.22), "cow": (0.42, 0.3),
    "ball": (0.16, 0.16), "kite": (0.24, 0.36),
}  # fmt: skip

# Where the lower edge of a thing may lie: by place, then for kinds that keep to a place of their own.
GROUND: dict[str, tuple[float, float]] = {
    "street": (0.8, 0.95), "park": (0.74, 0.96), "beach": (0.76, 0.96), "lake": (0.82, 0.96),
    "farm": (0.74, 0.96), "kitchen": (0.82, 0.96), "living room": (0.82, 0.96), "office": (0.82, 0.96),
}  # fmt: skip
LANES: dict[tuple[str, str], tuple[float, float]] = {
    ("street", "person"): (0.73, 0.86), ("street", "tree"): (0.66, 0.7), ("street", "bench"): (0.7, 0.73),
    ("street", "car"): (0.86, 0.96), ("street", "bus"): (0.8, 0.94),
    ("park", "tree"): (0.62, 0.74), ("farm", "tree"): (0.6, 0.7), ("lake", "tree"): (0.72, 0.8),
    ("lake", "boat"): (0.58, 0.65), ("beach", "boat"): (0.52, 0.57),
    ("living room", "sofa"): (0.8, 0.86), ("living room", "lamp"): (0.76, 0.86),
    ("office", "laptop"): (0.66, 0.7), ("office", "cup"): (0.66, 0.7), ("kitchen", "cup"): (0.48, 0.49),
}  # fmt: skip
LANES |= {(place, "kite"): (0.38, 0.44) for place in GROUND} | {
    (place, "clock"): (0.23, 0.3) for place in GROUND
}

HEAD = 0.155  # a person's head: its width in units of the picture's side
TABLE_TOP = (
    0.06  # where things stand on a table: this far below the table's upper edge, in units of its height
)
_POSES = {"bench": "front", "sofa": "front", "chair": "side", "boat": "bust"}
_ON_SEAT = {"bench": (0.28, 0.72), "sofa": (0.36, 0.64), "chair": (0.58, 0.58), "boat": (0.74, 0.74)}
_MARGIN = 0.015
_ACCEPT, _LIMIT = 0.12, 0.28


def pose(seat: str) -> str:
    """How a person is drawn: "standing", or as the seat they are on asks: "front", "side" or "bust"."""
    return _POSES.get(seat, "standing")


def person_size(attributes: frozenset[str], how: str) -> tuple[float, float, float]:
    """A person's width, height and the head's centre from the left, all in heads, before mirroring."""
    height = {"standing": 3.5, "front": 3.15, "side": 3.35, "bust": 2.0}[how]
    height += 0.3 * ("hat" in attributes) + 0.8 * ("umbrella" in attributes)
    if "umbrella" in attributes:
        return 2.45, height, 0.8
    return (1.75, height, 0.7) if how == "side" else (1.6, height, 0.8)


def arrange(rng: np.random.Generator, place: str, chosen: list[Thing], variant: int) -> Scene | None:
    """The scene with these things placed so that none hides much of another, or None if they do not fit."""
    seats = _take_seats(rng, chosen)
    for scale in (1.0, 1.0, 0.95, 0.9, 0.85):
        boxes = _place_all(rng, place, chosen, seats, scale, variant)
        if boxes is not None:
            return _painted_in_order(place, chosen, seats, boxes, variant)
    return None


def _take_seats(rng: np.random.Generator, chosen: list[Thing]) -> list[int | None]:
    """For each thing what it is on: a person on a free seat, a cup or laptop on the table."""
    hosts: list[int | None] = [None] * len(chosen)
    free = [i for i, thing in enumerate(chosen) if thing.kind in _POSES]
    rng.shuffle(free)
    table = next((i for i, thing in enumerate(chosen) if thing.kind == "table"), None)
    for i, thing in enumerate(chosen):
        if thing.kind == "person" and free and rng.random() < catalog()["seated"]:
            hosts[i] = free.pop()
        elif thing.kind in ("cup", "laptop"):
            hosts[i] = table
    return hosts


def _place_all(
    rng: np.random.Generator,
    place: str,
    chosen: list[Thing],
    hosts: list[int | None],
    scale: float,
    variant: int,
) -> list[Box] | None:
    boxes: dict[int, Box] = {}
    roots = [i for i, host in enumerate(hosts) if host is None]
    rng.shuffle(roots)
    roots.sort(key=lambda i: -SIZES.get(chosen[i].kind, (0.3, 0.5))[0])
    for root in roots:
        best, best_cost = None, _LIMIT
        for _ in range(24):
            spot = _spot(rng, place, chosen, hosts, root, scale, variant)
            cost = _cost(chosen, hosts, boxes | spot) if spot is not None else 1.0
            if spot is not None and cost < best_cost:
                best, best_cost = spot, cost
            if best_cost < _ACCEPT:
                break
        if best is None:
            return None
        boxes |= best
    return [boxes[i] for i in range(len(chosen))]


def _spot(
    rng: np.random.Generator,
    place: str,
    chosen: list[Thing],
    hosts: list[int | None],
    root: int,
    scale: float,
    variant: int,
) -> dict[int, Box] | None:
    """A random spot for a thing and for all that is on it; None where something would leave the picture."""
    thing = chosen[root]
    scale *= float(rng.uniform(0.95, 1.06))
    if thing.kind == "person":
        wide, high, _ = person_size(thing.attributes, "standing")
        w, h = wide * HEAD * scale, high * HEAD * scale
    else:
        w, h = (side * scale for side in SIZES[thing.kind])
    bottom = float(rng.uniform(*LANES.get((place, thing.kind), GROUND[place])))
    left, right = _MARGIN, 1 - _MARGIN - w
    if thing.kind == "clock":  # the window is on the other side of the wall
        left, right = (0.55, right) if variant % 2 == 0 else (left, 0.45 - w)
    boxes = {root: (float(rng.uniform(left, right)), bottom - h, w, h)}
    riders = [i for i, host in enumerate(hosts) if host == root]
    shares = np.array([0.5]) if len(riders) == 1 else rng.permutation([0.22, 0.78])
    for rider, share in zip(riders, shares, strict=False):
        boxes[rider] = _on(rng, thing, boxes[root], chosen[rider], float(share), scale)
    inside = all(x >= 0.0 and x + w <= 1.0 and y >= 0.005 for x, y, w, _ in boxes.values())
    return boxes if inside else None


def _on(rng: np.random.Generator, host: Thing, box: Box, rider: Thing, share: float, scale: float) -> Box:
    """The box of a person on a seat, or of a thing on a table, `share` of the way along it."""
    x, y, w, h = box
    if rider.kind != "person":
        wide, high = (side * scale for side in SIZES[rider.kind])
        return (min(max(x + w * share - wide / 2, x), x + w - wide), y + TABLE_TOP * h - high, wide, high)
    how = pose(host.kind)
    wide, high, centre = person_size(rider.attributes, how)
    unit = HEAD * min(scale, 1.0)
    at = _ON_SEAT[host.kind][int(rng.integers(2))]
    # A person in profile and one beside a sail face the way the seat does.
    mirrored = bool((host.variant if how in ("side", "bust") else rider.variant) & 1)
    head = x + w * (1 - at if mirrored and how != "front" else at)
    left = head - (wide - centre if mirrored else centre) * unit
    bottom = y + h * (0.74 if how == "bust" else 1.0)
    return (left, bottom - high * unit, wide * unit, high * unit)


def _depth(hosts: list[int | None], boxes: dict[int, Box], index: int) -> tuple[float, bool, int]:
    """What is lower in the picture is nearer; what is on something comes right after it."""
    host = hosts[index]
    _, y, _, h = boxes[index if host is None else host]
    return (y + h, host is not None, index)


def _cost(chosen: list[Thing], hosts: list[int | None], boxes: dict[int, Box]) -> float:
    """The largest share of a thing that nearer ones hide; a person's upper half counts threefold."""
    worst = 0.0
    for i, box in boxes.items():
        hidden = 0.0
        mine = _depth(hosts, boxes, i)
        upper = (box[0], box[1], box[2], box[3] * 0.5)
        for j, other in boxes.items():
            if i == j or hosts[j] == i or _depth(hosts, boxes, j) < mine:
                continue
            hidden += _overlap(box, other)
            if chosen[i].kind == "person":
                hidden += 2 * _overlap(upper, other)
        if chosen[i].kind in _POSES and i in hosts:  # whoever sits there hides a part already
            hidden *= 2.5
        worst = max(worst, hidden)
    return worst


def _overlap(box: Box, other: Box) -> float:
    """The share of `box` that `other` covers."""
    x, y, w, h = box
    ox, oy, ow, oh = other
    across = min(x + w, ox + ow) - max(x, ox)
    down = min(y + h, oy + oh) - max(y, oy)
    return across * down / (w * h) if across > 0 and down > 0 else 0.0


def _painted_in_order(
    place: str, chosen: list[Thing], hosts: list[int | None], boxes: list[Box], variant: int
) -> Scene:
    order = sorted(range(len(chosen)), key=lambda i: _depth(hosts, dict(enumerate(boxes)), i))
    rank = {old: new for new, old in enumerate(order)}
    things = []
    for i in order:
        thing, host = replace(chosen[i], box=boxes[i]), hosts[i]
        if thing.kind == "person" and host is not None:
            thing = replace(thing, sits_on=rank[host])
            if pose(chosen[host].kind) != "front":
                thing = replace(thing, variant=(thing.variant & ~1) | (chosen[host].variant & 1))
        things.append(thing)
    return Scene(place, tuple(things), variant)
