"""SAM reads both layouts alike, and its masks follow the heat map that it is given."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from integrations.sam_weights import load_sam
from integrations.segment_anything import Look, choose, cut_outs, regions, without_doubles
from negclip_core.clip import load_clip
from negclip_core.errors import RequestError


@pytest.fixture(scope="module")
def published(published_sam: Path) -> tuple[Path, Any]:
    """A small random SAM of transformers, saved as the hub's repositories are, and the model itself."""
    from transformers import SamModel

    return published_sam, SamModel.from_pretrained(published_sam).eval()


def test_transformers_weights_give_the_same_masks_in_segment_anything(published: tuple[Path, Any]) -> None:
    folder, model = published
    sam = load_sam(folder)
    pixels = torch.randn(1, 3, 64, 64)
    point, label, box = (
        torch.tensor([[[20.0, 30.0]]]),
        torch.tensor([[1]]),
        torch.tensor([[10.0, 12, 40, 50]]),
    )
    with torch.no_grad():
        expected = model(pixel_values=pixels, input_points=point[None], input_labels=label[None],
                         input_boxes=box[None], multimask_output=True)  # fmt: skip
        sparse, dense = sam.prompt_encoder(points=(point, label), boxes=box, masks=None)
        masks, quality = sam.mask_decoder(
            image_embeddings=sam.image_encoder(pixels), image_pe=sam.prompt_encoder.get_dense_pe(),
            sparse_prompt_embeddings=sparse, dense_prompt_embeddings=dense, multimask_output=True,
        )  # fmt: skip
    assert torch.allclose(masks, expected.pred_masks[0], rtol=1e-3, atol=1e-5)
    assert torch.allclose(quality, expected.iou_scores[0], rtol=1e-3, atol=1e-5)


def test_the_packages_own_checkpoint_is_read_by_its_shapes(
    published: tuple[Path, Any], tmp_path: Path
) -> None:
    sam = load_sam(published[0])
    torch.save(sam.state_dict(), tmp_path / "any-name.pth")
    again = load_sam(tmp_path / "any-name.pth")
    own, read = sam.state_dict(), again.state_dict()
    assert own.keys() == read.keys()
    assert all(torch.equal(own[name], read[name]) for name in own)
    assert again.image_encoder.img_size == 64
    assert [block.window_size for block in again.image_encoder.blocks] == [4, 0, 4]


@pytest.mark.parametrize("broken", ["missing", "empty folder", "another model", "cut"])
def test_what_is_no_sam_is_refused(
    published: tuple[Path, Any], clip_folder: Path, tmp_path: Path, broken: str
) -> None:
    path = tmp_path / "sam"
    if broken == "empty folder":
        path.mkdir()
    elif broken == "another model":
        path = clip_folder / "open_clip_model.safetensors"
    elif broken == "cut":
        weights = load_sam(published[0]).state_dict()
        torch.save({k: v for k, v in weights.items() if "mask_decoder" not in k}, path)
    with pytest.raises(RequestError, match=r"sam|open_clip_model"):
        load_sam(path)


def two_spots() -> np.ndarray:
    heat = np.zeros((40, 60))
    heat[5:15, 10:30] = 0.7
    heat[8, 12] = 0.9
    heat[30:33, 50:54] = 0.8
    return heat


def test_regions_are_the_hot_parts_and_specks_are_left_out() -> None:
    found = regions(two_spots(), 0.5)
    assert [region.box for region in found] == [(10, 5, 30, 15)]
    assert found[0].peak == (12.5, 8.5)
    assert found[0].mask.sum() == 200
    assert regions(two_spots(), 0.95) == []


def test_refining_what_is_nowhere_gives_an_empty_mask(published: tuple[Path, Any]) -> None:
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 60, 3), dtype=np.uint8))
    look = Look(load_sam(published[0]), image)
    assert not look.refine(np.zeros((40, 60)), 0.5).any()
    assert look.refine(two_spots(), 0.5).shape == (40, 60)


def test_the_mask_that_agrees_with_the_heat_is_taken(published: tuple[Path, Any]) -> None:
    look = Look(load_sam(published[0]), Image.new("RGB", (60, 40)))
    right, wrong = two_spots() >= 0.5, np.ones((40, 60), dtype=bool)
    prompts = []

    def predict(**prompt: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        prompts.append(prompt["mask_input"])
        return (
            np.stack([wrong, right]),
            np.array([0.9, 0.1]),
            np.stack([np.zeros((16, 16)), np.ones((16, 16))]),
        )

    look._predictor.predict = predict
    assert np.array_equal(look.refine(two_spots(), 0.5), right)
    assert prompts[0] is None and np.array_equal(prompts[1], np.ones((1, 16, 16)))


def test_a_cut_out_shows_its_thing_sharp_and_its_surroundings_blurred() -> None:
    pixels = np.zeros((40, 60, 3), dtype=np.uint8)
    pixels[::2] = 255
    mask = np.zeros((40, 60), dtype=bool)
    mask[10:30, 20:40] = True
    alone, around = (np.asarray(each) for each in next(cut_outs(Image.fromarray(pixels), [mask])))
    assert alone.shape == around.shape == (26, 26, 3)
    assert np.array_equal(alone[3:23, 3:23], around[3:23, 3:23])
    assert alone[:3].std() < around[:3].std() / 2


def test_the_mask_whose_thing_fits_the_text_is_chosen(clip_folder: Path) -> None:
    clip = load_clip(clip_folder)
    pixels = np.random.default_rng(0).integers(0, 256, (40, 60, 3), dtype=np.uint8)
    masks = [np.zeros((40, 60), dtype=bool) for _ in range(2)]
    masks[0][5:20, 5:20], masks[1][10:35, 30:55] = True, True
    image = Image.fromarray(pixels)
    texts = torch.stack([clip.encode_image(list(pair)).sum(0) for pair in cut_outs(image, masks)])
    texts = torch.nn.functional.normalize(texts, dim=-1)
    assert choose(clip, image, masks, texts).argmax(1).tolist() == [0, 1]


def test_of_doubles_the_best_one_is_left() -> None:
    boxes = torch.tensor(
        [[0, 0, 10, 10], [0, 0, 10, 9], [20, 20, 30, 30], [0, 0, 9, 10], [5, 5, 15, 15]]
    ).float()
    scores, one_group = torch.tensor([0.5, 0.9, 0.1, 0.7, 0.6]), torch.zeros(5)
    assert without_doubles(boxes, scores, one_group, 0.7).tolist() == [1, 4, 2]
    assert without_doubles(boxes, scores, one_group, 0.95).tolist() == [1, 3, 4, 0, 2]
    assert without_doubles(boxes, scores, torch.tensor([0, 1, 0, 1, 0]), 0.7).tolist() == [1, 4, 0, 2]
    assert without_doubles(boxes[:0], scores[:0], one_group[:0], 0.7).tolist() == []


def test_the_shipped_sam_proposes_the_things_of_drawings() -> None:
    from negclip_core.models import resolve
    from negclip_core.world.drawing import draw
    from negclip_core.world.scenes import sample_scene

    sam, rng = load_sam(Path(resolve("miniature/sam"))), np.random.default_rng(3)
    best = []
    for picture in (draw(sample_scene(rng), 64) for _ in range(8)):
        assert picture.instances is not None
        proposals = Look(sam, Image.fromarray(picture.image)).proposals
        things = [picture.instances == i for i in range(1, int(picture.instances.max()) + 1)]
        best += [max((m & t).sum() / (m | t).sum() for m in proposals) for t in things if t.sum() >= 40]
    assert len(best) > 15 and np.mean(best) > 0.7
