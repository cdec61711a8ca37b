"""Train the miniature's models again, from nothing; every part can be killed and goes on where it was.

scenes ─► text tower ─► UNet ─► Stable Diffusion ─► (host) ─┐
   ├─► autoencoder ───────┘                                 ├─► NegationCLIP
   ├─► image tower ─► CLIP ─► CLIPSeg                       │
   ├─► judge, SAM                                           │
   └─► captions with what is absent ────────────────────────┘

Few steps is a LoRA of Stable Diffusion.
"""

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import AutoencoderKL, StableDiffusionPipeline, UNet2DConditionModel
from open_clip.model import CLIP
from safetensors.torch import load_file, save_file
from transformers import CLIPTokenizer

from negclip_core.checkpoints import write_open_clip_folder
from negclip_core.clip import load_clip
from negclip_core.errors import RequestError
from negclip_core.files import atomic_write_json, provenance, read_json
from negclip_core.world.scenes import Scene
from negclip_core.world.tokenizer import write_tokenizer
from pipelines import synthesize, train
from pipelines.host import need_peft
from pipelines.miniature import (
    autoencoder,
    clip,
    clipseg,
    export,
    few_steps,
    image_tower,
    judge,
    sam,
    stable_diffusion,
    unet,
)
from pipelines.miniature.data import Pictures, pictures, scene
from pipelines.miniature.scene_tower import SceneTower

__all__ = ["PARTS", "Plan", "run"]

_PREPROCESS = {
    "mean": [image_tower.MEAN] * 3,
    "std": [image_tower.STD] * 3,
    "interpolation": "bilinear",
    "resize_mode": "squash",
}


@dataclass(frozen=True)
class Plan:
    """How much is trained on what. The defaults made the shipped models; `small` runs through in a minute."""

    pictures: int = 60_000
    text_steps: int = 2_000
    labelled_steps: int = 800  # of the image tower, by labels alone
    image_steps: int = 1_200  # and then towards the scene tower as well
    autoencoder_steps: int = 1_400
    unet_steps: int = 3_000
    clipseg_steps: int = 3_000
    segmented: int = 20_000  # pictures that its decoder is trained on
    sam_steps: int = 3_000
    few_steps: int = 900  # optimizer steps of the update that draws in four denoising steps
    paths: int = 2_000  # of the guided pipeline, that it learns from
    judge_steps: int = 3_300
    judged: tuple[int, int, int] = (30_000, 4_000, 4_000)
    batch: int = 128
    captioned: int = 16_000  # pictures whose captions NegationCLIP is trained on
    recipe: str = "host-ways"
    seed: int = 0

    @classmethod
    def small(cls) -> "Plan":
        """For tests: everything is touched, nothing is learned."""
        return cls(pictures=64, text_steps=2, labelled_steps=2, image_steps=2, autoencoder_steps=2, unet_steps=2, clipseg_steps=2, segmented=32, sam_steps=2,
                   few_steps=2, paths=8, batch=8, captioned=60, judge_steps=2, judged=(64, 64, 64))  # fmt: skip


@dataclass(frozen=True)
class _Work:
    folder: Path
    plan: Plan
    quiet: bool

    @cached_property
    def data(self) -> Pictures:
        return pictures(self.folder / "pictures", "train", self.plan.pictures, quiet=self.quiet)

    @cached_property
    def scenes(self) -> list[Scene]:
        return self.data.scenes()

    @cached_property
    def tokenizer(self) -> CLIPTokenizer:
        write_tokenizer(self.folder / "tokenizer")
        return CLIPTokenizer.from_pretrained(self.folder / "tokenizer")


def _write_clip(work: _Work, part: str, model: CLIP) -> None:
    write_open_clip_folder(
        work.folder / part, model.state_dict(), clip.config(len(work.tokenizer)), preprocess=_PREPROCESS,
        made_by=_made_by(work, part), tokenizer_folder=work.folder / "tokenizer", dtype=torch.float16,
    )  # fmt: skip


def _build_text_tower(work: _Work) -> None:
    """A CLIP whose image tower has not seen anything yet; the UNet needs no more."""
    plan, folder = work.plan, work.folder
    model = clip.create(len(work.tokenizer), plan.seed)
    teacher = clip.build_text_tower(model, work.tokenizer, work.scenes, folder, steps=plan.text_steps,
                                    seed=plan.seed, batch=2 * plan.batch, quiet=work.quiet)  # fmt: skip
    save_file(teacher.state_dict(), folder / "scene_tower.safetensors")
    _write_clip(work, "text-tower", model)


def _build_clip(work: _Work) -> None:
    plan, folder = work.plan, work.folder
    model = clip.create(len(work.tokenizer), plan.seed)
    teacher = SceneTower(clip.EMBED_DIM).requires_grad_(False)
    teacher.load_state_dict(load_file(folder / "scene_tower.safetensors"))
    heads = image_tower.Heads(model.visual.conv1.out_channels, clip.EMBED_DIM)
    stages = (("labelled", plan.labelled_steps, None), ("image_tower", plan.image_steps, teacher))
    for name, steps, target in stages:
        image_tower.build(model.visual, heads, work.data, work.scenes, folder / f"{name}.ckpt", steps=steps,
                          teacher=target, seed=plan.seed, batch=plan.batch, quiet=work.quiet)  # fmt: skip
    words = load_clip(folder / "text-tower").model
    model.load_state_dict(
        {name: tensor if name.startswith("visual.") else words.state_dict()[name]
         for name, tensor in model.state_dict().items()}
    )  # fmt: skip
    _write_clip(work, "clip", model)


def _build_autoencoder(work: _Work) -> None:
    plan = work.plan
    model = autoencoder.build(work.data, work.folder, steps=plan.autoencoder_steps, seed=plan.seed,
                              batch=plan.batch // 4, quiet=work.quiet)  # fmt: skip
    # Rounded before the UNet is trained on its latents, so that what ships is what was trained with.
    model.half().save_pretrained(work.folder / "autoencoder")


def _build_unet(work: _Work) -> None:
    plan = work.plan
    encoder = AutoencoderKL.from_pretrained(work.folder / "autoencoder", torch_dtype=torch.float32)
    words = load_clip(work.folder / "text-tower")
    model = unet.build(encoder, words.text_encoder(), work.tokenizer, work.data, work.scenes, work.folder,
                       steps=plan.unet_steps, seed=plan.seed, batch=plan.batch // 4, quiet=work.quiet)  # fmt: skip
    model.half().save_pretrained(work.folder / "unet")


def _build_stable_diffusion(work: _Work) -> None:
    stable_diffusion.assemble(
        load_clip(work.folder / "clip"), work.tokenizer, AutoencoderKL.from_pretrained(work.folder / "autoencoder"),
        UNet2DConditionModel.from_pretrained(work.folder / "unet"), work.folder / "stable-diffusion",
    )  # fmt: skip


def _build_few_steps(work: _Work) -> None:
    plan = work.plan
    pipe = StableDiffusionPipeline.from_pretrained(
        work.folder / "stable-diffusion", torch_dtype=torch.float32
    )
    rng = np.random.default_rng(plan.seed)
    texts = [clip.pretraining_caption(scene("train", index), rng) for index in range(plan.paths)]
    few_steps.build(pipe, texts, work.folder / "few-steps", steps=plan.few_steps, seed=plan.seed,
                    batch=plan.batch // 4, quiet=work.quiet)  # fmt: skip


def _build_clipseg(work: _Work) -> None:
    plan, folder = work.plan, work.folder / "clipseg"
    model = clipseg.assemble(load_clip(work.folder / "clip"))
    clipseg.build(model, work.tokenizer, work.data, work.scenes, work.folder, steps=plan.clipseg_steps,
                  pictures=plan.segmented, seed=plan.seed, batch=plan.batch, quiet=work.quiet)  # fmt: skip
    validation = pictures(
        work.folder / "pictures", "validation", min(plan.segmented, 2_000), quiet=work.quiet
    )
    clipseg.save(model, work.tokenizer, folder)
    clipseg.calibrate(model.float(), work.tokenizer, validation, folder)


def _build_sam(work: _Work) -> None:
    plan = work.plan
    model = sam.create(plan.seed)
    sam.build(model, work.data, work.folder, steps=plan.sam_steps, seed=plan.seed, batch=max(1, plan.batch // 16),
              quiet=work.quiet)  # fmt: skip
    sam.save(model, work.folder / "sam")


def _build_judge(work: _Work) -> None:
    plan = work.plan
    judge.build(work.folder / "judge", plan.judge_steps, plan.seed, not work.quiet, store=work.folder / "pictures",
                batch=plan.batch // 2, drawn=plan.judged)  # fmt: skip


def negated_captions(folder: Path, count: int, quiet: bool) -> Path:
    """Draw `count` pictures of the training split into `folder` and write what they lack into their captions."""
    out = folder / "negated_captions.json"
    if not out.exists():
        files = {
            name: Path(path) for name, path in export.run(folder, count, 0, "train", quiet)["files"].items()
        }
        vqa = [files["vqa_questions"], files["vqa_annotations"]]
        synthesize.run(files["captions"], files["instances"], vqa, "all", out, seed=0)
    return out


def _build_negationclip(work: _Work) -> None:
    plan, data = work.plan, work.folder / "captioned"
    captions = negated_captions(data, plan.captioned, work.quiet)
    trained = work.folder / "negationclip-training"
    result = train.run(captions, data / "images", str(work.folder / "clip"), trained, plan.recipe,
                       str(work.folder / "stable-diffusion"), quiet=work.quiet, seed=plan.seed)  # fmt: skip
    training = {name: result[name] for name in ("pairs", "best_epoch", "validation_loss")}
    full = load_clip(trained)
    write_open_clip_folder(
        work.folder / "negationclip", full.checkpoint.weights, full.config, preprocess=full.checkpoint.preprocess,
        made_by=_made_by(work, "negationclip") | {"training": training}, tokenizer_folder=trained, dtype=torch.float16,
    )  # fmt: skip


PARTS: dict[str, Callable[[_Work], None]] = {
    "text-tower": _build_text_tower,
    "clip": _build_clip,
    "autoencoder": _build_autoencoder,
    "unet": _build_unet,
    "stable-diffusion": _build_stable_diffusion,
    "few-steps": _build_few_steps,
    "negationclip": _build_negationclip,
    "clipseg": _build_clipseg,
    "sam": _build_sam,
    "judge": _build_judge,
}
# What a part is made from; each stands in `PARTS` behind what it needs.
_NEEDS = {
    "clip": ("text-tower",), "unet": ("text-tower", "autoencoder"), "stable-diffusion": ("clip", "autoencoder", "unet"),
    "few-steps": ("stable-diffusion",), "negationclip": ("clip", "stable-diffusion"), "clipseg": ("clip",),
}  # fmt: skip


def _made_by(work: _Work, part: str) -> dict[str, Any]:
    return {"part": part, "plan": asdict(work.plan), **provenance()}


def _mark(folder: Path, part: str) -> Path:
    """A file that is there once the part is finished."""
    return folder / f"{part}.done"


def _refuse_what_is_missing(folder: Path, chosen: list[str]) -> None:
    for part in chosen:
        needed = () if _mark(folder, part).exists() else _NEEDS.get(part, ())
        missing = [need for need in needed if need not in chosen and not _mark(folder, need).exists()]
        if missing:
            more = " ".join(f"--part {need}" for need in missing)
            raise RequestError(
                f"--part {part}: it is made from {', '.join(missing)}, not in {folder}; add {more}"
            )
    if "few-steps" in chosen and not _mark(folder, "few-steps").exists():
        need_peft("the part few-steps")


def run(
    folder: Path, parts: list[str], plan: Plan, *, threads: int | None = None, quiet: bool = False
) -> dict[str, str]:
    """Build `parts` (all of them where empty) into `folder`, in the order of `PARTS`, and say where each lies.

    Parts that are finished there are not built again.

    Raises:
        RequestError: a part is not known, or what it needs is neither there nor asked for; the folder holds another plan.
    """
    if unknown := [part for part in parts if part not in PARTS]:
        raise RequestError(f"part {unknown[0]!r} is not known; there are: {', '.join(PARTS)}")
    chosen = [part for part in PARTS if not parts or part in parts]
    _refuse_what_is_missing(folder, chosen)
    if threads is not None:
        torch.set_num_threads(threads)
    record = folder / "plan.json"
    folder.mkdir(parents=True, exist_ok=True)
    settings = json.loads(json.dumps(asdict(plan)))
    if record.exists() and read_json(record) != settings:
        raise RequestError(f"{folder}: holds a build with another plan; give another --out, or delete it")
    atomic_write_json(record, settings)
    work = _Work(folder, plan, quiet)
    done = {}
    for name in chosen:
        if not (mark := _mark(folder, name)).exists():
            PARTS[name](work)
            mark.write_text("", "utf-8")
        done[name] = str(folder / name)
    return done
