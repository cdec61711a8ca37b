"""What the miniature's CLIPSeg is trained on: phrases and the pixels that they mean."""

import numpy as np
import torch

from negclip_core.world.drawing import draw
from negclip_core.world.scenes import sample_scene
from pipelines.miniature.clipseg import _masks, _phrases, _several


def test_a_phrase_that_fits_several_things_means_all_of_them() -> None:
    scenes = [sample_scene(np.random.default_rng(i), require=frozenset({"person"})) for i in range(60)]
    phrases = _phrases(scenes, seed=0)
    found = 0
    for row, scene in enumerate(scenes):
        for noun, alike in _several(scene).items():
            own = [i for i in range(len(phrases.texts)) if phrases.row[i] == row]
            meant = [int(phrases.meant[i]) for i in own if phrases.texts[i].split(" ", 1)[1] == noun]
            assert sum(1 << index for index in alike) in meant
            found += 1
    assert found > 10
    assert (~phrases.there).sum() > 20


def test_masks_hold_what_is_meant_and_nothing_else() -> None:
    scene = sample_scene(np.random.default_rng(3))
    instances = torch.from_numpy(draw(scene, 64).instances)[None].expand(3, -1, -1)
    masks = _masks(instances, torch.tensor([0b01, 0b11, 0]))
    assert torch.equal(masks[0], instances[0] == 1)
    assert torch.equal(masks[1], (instances[0] == 1) | (instances[0] == 2))
    assert not masks[2].any()
