"""What the miniature's CLIPSeg is trained on: phrases and the pixels that they mean."""

from pathlib import Path

import numpy as np
import torch

from negclip_core.world.drawing import draw
from negclip_core.world.referring import by_noun
from negclip_core.world.scenes import sample_scene
from pipelines.miniature.data import pictures
from pipelines.miniature.referred import masks, one_of, phrases_of, shown


def test_a_phrase_that_fits_several_things_means_all_of_them() -> None:
    scenes = [sample_scene(np.random.default_rng(i), require=frozenset({"person"})) for i in range(60)]
    phrases = phrases_of(scenes, seed=0)
    found = 0
    for row, scene in enumerate(scenes):
        for noun, alike in by_noun(scene).items():
            if len(alike) < 2:
                continue
            own = [i for i in range(len(phrases.texts)) if phrases.row[i] == row]
            meant = [int(phrases.meant[i]) for i in own if phrases.texts[i].split(" ", 1)[1] == noun]
            assert sum(1 << index for index in alike) in meant
            found += 1
    assert found > 10
    assert (~phrases.there).sum() > 20


def test_masks_hold_what_is_meant_and_nothing_else() -> None:
    scene = sample_scene(np.random.default_rng(3))
    instances = torch.from_numpy(draw(scene, 64).instances)[None].expand(3, -1, -1)
    found = masks(instances, torch.tensor([0b01, 0b11, 0]))
    assert torch.equal(found[0], instances[0] == 1)
    assert torch.equal(found[1], (instances[0] == 1) | (instances[0] == 2))
    assert not found[2].any()


def test_one_thing_of_several_is_chosen_each_as_often() -> None:
    torch.manual_seed(0)
    drawn = one_of(torch.tensor([0b1010, 0b100] * 200))
    assert set(drawn[::2].tolist()) == {0b10, 0b1000} and set(drawn[1::2].tolist()) == {0b100}
    assert 70 < int((drawn[::2] == 0b10).sum()) < 130


def test_pictures_are_drawn_anew_with_one_of_several_things_less(tmp_path: Path) -> None:
    data = pictures(tmp_path, "validation", 40, quiet=True)
    rows = torch.arange(40)
    scenes = data.scenes()
    subjects = shown(data, rows, scenes, seed=0, quiet=True)
    assert (subjects.fewer >= 0).sum() > 3 and len(subjects.images) == 40 + int((subjects.fewer >= 0).sum())
    for row, fewer in enumerate(subjects.fewer.tolist()):
        repeated = [alike for alike in by_noun(scenes[row]).values() if len(alike) > 1]
        if fewer < 0:
            continue
        before, after = (set(subjects.instances[each].unique().tolist()) for each in (row, fewer))
        gone = before - after
        # What it hid may come to sight, and a thing that was hidden anyway leaves no mark.
        assert len(gone) <= 1 and all(any(mark - 1 in alike for alike in repeated) for mark in gone)
        if gone:
            assert not torch.equal(subjects.images[row], subjects.images[fewer])
