"""The shipped miniature: small, and loadable by the libraries themselves."""

from pathlib import Path

import numpy as np
import pytest
import torch

from integrations.stable_diffusion import swap_text_encoder
from negclip_core import load_clip
from negclip_core.models import resolve

ROOT = Path(__file__).parent.parent / "negclip_core" / "miniature"
PIPELINE = ROOT / "stable-diffusion"


def test_weights_are_50_mb_at_most_and_nothing_has_to_be_unpickled() -> None:
    files = [path for path in ROOT.rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) <= 50_000_000
    assert {path.suffix for path in files} <= {".json", ".safetensors", ".txt", ".md"}


def test_diffusers_loads_the_pipeline_by_itself_and_the_gate_changes_nothing_without_negation() -> None:
    from diffusers import StableDiffusionPipeline

    pipe = StableDiffusionPipeline.from_pretrained(resolve("miniature"))
    pipe.set_progress_bar_config(disable=True)

    def picture(prompt: str) -> np.ndarray:
        generator = torch.Generator().manual_seed(3)
        return np.asarray(pipe(prompt, num_inference_steps=2, generator=generator).images[0])

    plain, negated = picture("a street with cars"), picture("a street with no cars")
    assert plain.shape == (64, 64, 3)
    with swap_text_encoder(pipe, load_clip("miniature/negationclip")):
        assert np.array_equal(picture("a street with cars"), plain)
        assert not np.array_equal(picture("a street with no cars"), negated)


@pytest.mark.parametrize("part", ["clip", "negationclip"])
def test_open_clip_loads_the_folder_by_itself(part: str) -> None:
    import open_clip

    model, _, _ = open_clip.create_model_and_transforms(f"local-dir:{ROOT / part}")
    ids = open_clip.get_tokenizer(f"local-dir:{ROOT / part}")(["a street with no cars"])
    ours = load_clip(f"miniature/{part}").encode_text(["a street with no cars"])
    theirs = torch.nn.functional.normalize(model.eval().encode_text(ids).float(), dim=-1)
    assert torch.allclose(ours.float(), theirs, atol=1e-3)


def test_vanilla_cannot_tell_no_cars_from_cars_and_negationclip_can(tmp_path: Path) -> None:
    """On held-out places, things and sentences, in half of which the thing is there: which of two sentences fits?"""
    from PIL import Image

    from negclip_core.world.exports.existence import valse_existence
    from negclip_core.world.exports.pictures import draw_scenes

    rows = list(valse_existence(list(draw_scenes(tmp_path, "test", 7, 300)), "test", 7).values())
    assert len(rows) > 200
    pictures: list[Image.Image] = [Image.open(tmp_path / row["image_file"]) for row in rows]
    right = {}
    for part in ("clip", "negationclip"):
        clip = load_clip(f"miniature/{part}")
        true, false = (clip.encode_text([row[which] for row in rows]) for which in ("caption", "foil"))
        images = clip.encode_image(pictures)
        right[part] = (((true - false) * images).sum(1) > 0).float().mean().item()
    assert 0.4 < right["clip"] < 0.6
    assert right["negationclip"] > 0.9


def test_vanilla_marks_who_has_the_hat_and_negationclip_who_has_none() -> None:
    """On held-out drawings and phrasings: how much of what is meant each marks."""
    from PIL import Image

    from integrations.referring import Finder
    from negclip_core.world.drawing import draw
    from negclip_core.world.referring import referring
    from negclip_core.world.scenes import sample_scene
    from pipelines.segmenter import load_segmenter

    segmenter = load_segmenter("miniature/clipseg", "cpu", quiet=True)
    arms = [
        Finder("vanilla", segmenter, None),
        Finder("negationclip", segmenter, load_clip("miniature/negationclip")),
    ]
    rng = np.random.default_rng(19)
    asked: list[tuple[Image.Image, str, np.ndarray]] = []
    while len(asked) < 60:
        scene = sample_scene(rng, require=frozenset({"person"}))
        picture = draw(scene)
        assert picture.instances is not None
        for index in range(len(scene.things)):
            phrase = referring(scene, index, rng, "test", negated=True)
            meant = picture.instances == index + 1
            if phrase is not None and meant.sum() >= 20:
                asked.append((Image.fromarray(picture.image), phrase.text, meant))
    overlaps: dict[str, list[float]] = {arm.name: [] for arm in arms}
    for arm in arms:
        with arm.reading():
            for image, text, meant in asked:
                mask, _ = arm.find(image, [text])[0]
                overlaps[arm.name].append((mask & meant).sum() / (mask | meant).sum())
    assert np.mean(overlaps["vanilla"]) < 0.25
    assert np.mean(overlaps["negationclip"]) > 0.5


def test_the_shipped_sam_sharpens_a_rough_map() -> None:
    from PIL import Image

    from integrations.segment_anything import Look
    from negclip_core.world.drawing import draw
    from negclip_core.world.scenes import sample_scene
    from pipelines.segmenter import load_sam_model

    picture = draw(sample_scene(np.random.default_rng(4), place="street", require=frozenset({"car"})))
    assert picture.instances is not None
    meant = picture.instances == int(np.bincount(picture.instances[picture.instances > 0]).argmax())
    ys, xs = np.nonzero(meant)
    heat = np.zeros((64, 64), np.float32)
    heat[ys.min() : ys.max() + 1, xs.min() : xs.max() + 1] = 0.9  # its box, all of it
    look = Look(load_sam_model("miniature/sam", "cpu"), Image.fromarray(picture.image))
    box, mask = heat > 0.5, look.refine(heat, 0.5)
    assert (mask & meant).sum() / (mask | meant).sum() > (box & meant).sum() / (box | meant).sum()


def test_in_four_steps_without_guidance_the_swap_still_acts() -> None:
    """On 40 held-out prompts that deny something; there a negative prompt does nothing."""
    from eval.judges import load_judge
    from negclip_core.world.negation import negated_prompt
    from pipelines.host import load_host

    host = load_host("miniature", "cpu", quiet=True, lora="miniature/few-steps")
    judge = load_judge("miniature/judge")
    rng = np.random.default_rng(0)
    prompts = [negated_prompt(rng, "test") for _ in range(40)]

    def drawn() -> int:
        """Denied things that are there."""
        noise = [torch.Generator().manual_seed(seed) for seed in range(len(prompts))]
        images = host.pipe([p.prompt for p in prompts], generator=noise, num_inference_steps=4, guidance_scale=1.0).images  # fmt: skip
        said = judge.answers(np.stack([np.asarray(image) for image in images]), [p.negated for p in prompts])
        return sum(bool(there) for answers in said for there in answers.values())

    vanilla = drawn()
    with swap_text_encoder(host.pipe, load_clip("miniature/negationclip")):
        assert drawn() <= 0.6 * vanilla
