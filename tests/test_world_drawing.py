"""The drawn world's pictures: the same each time, true to the catalogue, with everything in sight."""

from typing import Any

import numpy as np
import pytest

from negclip_core.errors import RequestError
from negclip_core.world.catalog import PLACES, catalog
from negclip_core.world.drawing import draw, visible_boxes, visible_fraction
from negclip_core.world.scenes import Scene, Thing, sample_scene


def _scenes(place: str | None, number: int, seed: int = 0) -> list[Scene]:
    rng = np.random.default_rng(seed)
    return [sample_scene(rng, place) for _ in range(number)]


def _alone(thing: Thing) -> np.ndarray:
    return draw(Scene("park", (thing,))).image


def test_the_same_seed_gives_the_same_scene_and_the_same_picture() -> None:
    for first, second in zip(_scenes(None, 20), _scenes(None, 20), strict=True):
        assert first == second
        assert np.array_equal(draw(first).image, draw(second).image)


def test_instances_change_nothing_in_the_image() -> None:
    for scene in _scenes(None, 10):
        without = draw(scene, instances=False)
        assert without.instances is None
        assert np.array_equal(draw(scene).image, without.image)


@pytest.mark.parametrize("place", PLACES)
def test_every_kind_of_a_place_can_be_required_and_is_seen(place: str) -> None:
    rng = np.random.default_rng(1)
    for kind in catalog()["places"][place]["things"]:
        scene = sample_scene(rng, place, require=frozenset({kind}))
        assert scene.place == place and scene.has(kind)
        picture = draw(scene)
        assert picture.image.shape == (64, 64, 3) and picture.image.dtype == np.uint8
        assert picture.instances is not None
        drawn = {scene.things[mark - 1].kind for mark in np.unique(picture.instances) if mark}
        assert drawn == scene.kinds()


@pytest.mark.parametrize("place", PLACES)
def test_things_are_inside_visible_and_where_their_boxes_say(place: str) -> None:
    for scene in _scenes(place, 40):
        assert len(scene.things) <= 5
        picture = draw(scene, size=128)
        boxes, fractions = visible_boxes(picture, scene), visible_fraction(picture, scene)
        for thing, seen, fraction in zip(scene.things, boxes, fractions, strict=True):
            x, y, w, h = thing.box
            assert x >= 0 and y >= 0 and x + w <= 1 and y + h <= 1
            assert fraction >= 0.5, (thing, scene)
            assert seen[0] >= (x - 0.03) * 128 and seen[1] >= (y - 0.03) * 128
            assert seen[0] + seen[2] <= (x + w + 0.03) * 128 and seen[1] + seen[3] <= (y + h + 0.03) * 128


def test_a_thing_alone_fills_its_box() -> None:
    for scene in _scenes(None, 40):
        for thing in scene.things:
            alone = Scene(scene.place, (thing,))
            if thing.sits_on is None:
                _, _, w, h = visible_boxes(draw(alone, size=256), alone)[0]
                assert w > 0.88 * thing.box[2] * 256 and h > 0.88 * thing.box[3] * 256, thing


def test_people_sit_on_seats_painted_before_them() -> None:
    seated = [
        (scene, thing)
        for scene in _scenes("park", 300)
        for thing in scene.things
        if thing.sits_on is not None
    ]
    assert len(seated) > 10
    for scene, thing in seated:
        assert thing.kind == "person" and thing.sits_on is not None
        assert scene.things[thing.sits_on].kind == "bench"
        assert thing.sits_on < scene.things.index(thing)


def test_what_people_wear_and_who_they_are_shows() -> None:
    box = (0.3, 0.2, 0.4, 0.7)
    plain = _alone(Thing("person", "red", box, gender="woman"))
    assert not np.array_equal(plain, _alone(Thing("person", "red", box, gender="man")))
    for attribute in catalog()["attributes"]:
        worn = _alone(Thing("person", "red", box, frozenset({attribute}), "woman"))
        changed = np.abs(plain.astype(int) - worn).max(2) > 40
        assert changed.sum() > 20, attribute


def test_a_laptop_without_a_table_stands_on_something() -> None:
    laptop = Thing("laptop", "", (0.4, 0.48, 0.26, 0.19))
    with_laptop, empty = draw(Scene("office", (laptop,))), draw(Scene("office", ()))
    assert with_laptop.instances is not None
    below = (slice(46, 54), slice(28, 40))
    assert not with_laptop.instances[below].any()
    assert (with_laptop.image[below] != empty.image[below]).any(2).mean() > 0.9


def test_umbrellas_stay_outdoors() -> None:
    for scene in _scenes("office", 100):
        assert all("umbrella" not in thing.attributes for thing in scene.things)


def test_require_and_forbid_are_honoured() -> None:
    rng = np.random.default_rng(2)
    for _ in range(100):
        scene = sample_scene(
            rng, "street", require=frozenset({"bus", "dog"}), forbid=frozenset({"car", "person"})
        )
        assert scene.has("bus") and scene.has("dog")
        assert not scene.has("car") and not scene.has("person")
        assert sample_scene(rng, require=frozenset({"laptop"})).place == "office"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"place": "moon"}, "unknown place 'moon'"),
        ({"place": "street", "require": frozenset({"cow"})}, "no street of the drawn world holds cow"),
        ({"require": frozenset({"cow", "laptop"})}, "no place of the drawn world holds cow, laptop"),
        (
            {"place": "living room", "require": frozenset(catalog()["places"]["living room"]["things"])},
            "too many things",
        ),
        ({"require": frozenset({"car"}), "forbid": frozenset({"car"})}, "car: both required and forbidden"),
    ],
)
def test_what_cannot_be_is_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(RequestError, match=message):
        sample_scene(np.random.default_rng(0), **arguments)


@pytest.mark.parametrize("place", PLACES)
def test_kinds_are_as_frequent_as_the_catalogue_says(place: str) -> None:
    scenes = _scenes(place, 600, seed=3)
    for kind, probability in catalog()["places"][place]["things"].items():
        share = sum(scene.has(kind) for scene in scenes) / len(scenes)
        assert share == pytest.approx(probability, abs=0.075), kind
        if (place, kind) == ("street", "car"):
            assert share == pytest.approx(0.75, abs=0.05)


@pytest.mark.parametrize("size", [8, 64, 200, 512])
def test_any_multiple_of_eight_is_a_size(size: int) -> None:
    picture = draw(_scenes("lake", 1)[0], size)
    assert picture.image.shape == (size, size, 3)
    assert picture.instances is not None and picture.instances.shape == (size, size)


@pytest.mark.parametrize("size", [0, 60, 2048])
def test_other_sizes_are_refused(size: int) -> None:
    with pytest.raises(RequestError, match=f"size {size}"):
        draw(_scenes("lake", 1)[0], size)


def test_boxes_need_instances() -> None:
    scene = _scenes("park", 1)[0]
    with pytest.raises(RequestError, match="instances=True"):
        visible_boxes(draw(scene, instances=False), scene)
