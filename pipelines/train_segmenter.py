"""`negclip train --host clipseg`: CLIPSeg's decoder on referring expressions, beside a text tower of one's choice.

The paper trains the decoder of its own segmenter anew beside NegationCLIP's text tower (arXiv 2501.10913, section 4.3);
both towers stay as they are, and the loss is CLIPSeg's: binary cross-entropy of each pixel (Lüddecke & Ecker 2022).
"""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from negclip_core.errors import RequestError
from negclip_core.files import alone_in, atomic_write_json, make_output_folder, provenance
from pipelines.console import pick_device

if TYPE_CHECKING:
    from torch import Tensor

    from eval.refer_files import Referred
    from pipelines.segmenter import Segmenter

__all__ = ["Request", "run"]

_HIGHEST_RATE = 1000  # as recipes have it


@dataclass(frozen=True)
class Request:
    """What to train on what."""

    data: Path
    out: Path
    task: str = "refcocog"  # a task of segmentation, whose training split is read
    model: str = "miniature"
    text_encoder: str | None = None  # None: the segmenter's own
    steps: int = 20_000
    batch_size: int = 64
    learning_rate: float = 1e-3
    limit: int | None = None
    seed: int = 0
    device: str = "auto"
    quiet: bool = False


def run(request: Request) -> dict[str, Any]:
    """Train, or go on training, and write a folder that transformers loads, with the chosen text tower in it.

    Returns:
        {"checkpoint", "expressions", "steps"}.

    Raises:
        RequestError: something about the request or the data is wrong, or `out` holds another run.
    """
    from pipelines.segmenter import load_segmenter

    _check(request)
    items = _items(request)
    segmenter = load_segmenter(request.model, pick_device(request.device), request.quiet)
    named = _put_in(segmenter, request)
    out = make_output_folder(request.out)
    with alone_in(out):
        _train(segmenter, items, request, named)
        segmenter.model.eval().save_pretrained(out)
        segmenter.processor.save_pretrained(out)
        atomic_write_json(
            out / "negclip.json",
            {"made_by": {"model": {"name": request.model, "sha256": segmenter.sha256}, "text_encoder": named,
                         "task": request.task, "expressions": len(items), "steps": request.steps,
                         "batch_size": request.batch_size, "learning_rate": request.learning_rate, "seed": request.seed,
                         **provenance()}},
        )  # fmt: skip
    return {"checkpoint": str(out), "expressions": len(items), "steps": request.steps}


def _check(request: Request) -> None:
    """What can be refused before anything is read."""
    for name, value in (("steps", request.steps), ("batch-size", request.batch_size)):
        if value < 1:
            raise RequestError(f"--{name} {value}: expected 1 or more")
    if not 0 <= request.learning_rate <= _HIGHEST_RATE:
        raise RequestError(
            f"--learning-rate {request.learning_rate}: expected a number from 0 to {_HIGHEST_RATE}"
        )


def _train(
    segmenter: "Segmenter", items: "list[Referred]", request: Request, text_encoder: dict[str, Any] | None
) -> None:
    """All steps that the run in `request.out` has not taken yet."""
    import torch

    from negclip_core.training.fit import fit

    model = segmenter.model.requires_grad_(False)
    model.decoder.requires_grad_(True).train()

    def losses(step: int) -> "dict[str, Tensor]":
        chosen = [items[int(row)] for row in torch.randint(len(items), (request.batch_size,))]
        pixels, words, goal = _batch(segmenter, chosen)
        logits = model(
            pixel_values=pixels, conditional_embeddings=words, interpolate_pos_encoding=True
        ).logits
        return {
            "pixels": torch.nn.functional.binary_cross_entropy_with_logits(
                logits.view_as(goal), goal.to(logits.dtype)
            )
        }

    made_of = {
        "task": request.task, "limit": request.limit, "expressions (SHA-256)": _fingerprint(items),
        "model (SHA-256)": segmenter.sha256, "text encoder (SHA-256)": text_encoder and text_encoder["sha256"],
        "batch size": request.batch_size, "learning rate": request.learning_rate,
    }  # fmt: skip
    optimizer = torch.optim.AdamW(model.decoder.parameters(), lr=request.learning_rate)
    fit("decoder", {"decoder": model.decoder}, [optimizer], losses, steps=request.steps, seed=request.seed,
        made_of=made_of, checkpoint=request.out / "run.ckpt", quiet=request.quiet)  # fmt: skip


def _fingerprint(items: "list[Referred]") -> str:
    """64 hexadecimal digits that change with the expressions, the names of their images and what they mean there."""
    digest = hashlib.sha256()
    for item in items:
        digest.update(repr((item.id, item.image.name, item.expression, item.size, item.shapes)).encode())
    return digest.hexdigest()


def _items(request: Request) -> "list[Referred]":
    from eval.options import Options
    from eval.registry import load, task

    info = task(request.task)
    if info.kind != "segmentation":
        raise RequestError(
            f"--task {request.task}: is one of {info.kind}; a decoder is trained on segmentation"
        )
    options = Options(seed=request.seed, limit=request.limit, split="train")
    found: list[Referred] = load(info).items(request.data, options)
    return found


def _put_in(segmenter: "Segmenter", request: Request) -> dict[str, Any] | None:
    """Give the segmenter the chosen text tower for good, and say which that is."""
    from integrations.clipseg import check_fit
    from negclip_core.clip import load_clip
    from negclip_core.models import text_encoder_for

    if request.text_encoder is None:
        return None
    clip, tokenizer = segmenter.model.clip, segmenter.processor.tokenizer
    own = segmenter.model.config.text_config
    source = text_encoder_for(request.model, own.hidden_size, own.num_hidden_layers, request.text_encoder)
    encoder = load_clip(source.source, source.architecture)
    check_fit(segmenter.model, tokenizer, encoder)
    tower = encoder.text_encoder(True, own.num_hidden_layers)
    try:
        clip.text_model.load_state_dict(tower.text_model.state_dict(), strict=False)
        clip.text_projection.load_state_dict(tower.text_projection.state_dict())
    except RuntimeError as error:
        reason = " ".join(str(error).split())[:200]
        raise RequestError(f"{source.source}: does not fit {request.model} ({reason})") from error
    return {"name": source.source, "sha256": encoder.sha256}


def _batch(segmenter: "Segmenter", items: "list[Referred]") -> "tuple[Tensor, Tensor, Tensor]":
    """Pixels, the expressions' embeddings [n, d], and the true masks float [n, side, side]."""
    import torch
    from PIL import Image

    from eval.refer_files import truth
    from integrations.clipseg import embeddings
    from negclip_core.images import open_image

    model = segmenter.model
    images = [open_image(item.image) for item in items]
    pixels = segmenter.processor(images=images, return_tensors="pt").pixel_values
    side = pixels.shape[-1]
    masks = [
        np.asarray(Image.fromarray(truth(item)).resize((side, side), Image.Resampling.NEAREST))
        for item in items
    ]
    words = embeddings(model, segmenter.processor, [item.expression for item in items])
    goal = torch.from_numpy(np.stack(masks)).float()
    return pixels.to(model.device, model.dtype), words.to(model.dtype), goal.to(model.device)
