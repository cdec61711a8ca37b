"""`negclip train`: a NegationCLIP from captions that say what is absent."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from pipelines.options import AsJson, Out, Quiet

__all__ = ["register", "run"]


def _host(name: str, folder: Path, names: list[str], bf16: bool) -> Any:
    """The frozen diffusion host that `host_score` reads, over the training images."""
    import numpy as np
    import torch
    from PIL import Image

    from integrations.denoiser import Denoiser
    from pipelines.host import load_host

    pipe = load_host(name, "cpu").pipe
    side = pipe.vae.config.sample_size
    pixels = []
    for each in names:
        with Image.open(folder / each, formats=("PNG", "JPEG", "WEBP")) as image:
            pixels.append(np.asarray(image.convert("RGB").resize((side, side))))
    images = torch.from_numpy(np.stack(pixels)).permute(0, 3, 1, 2).float() / 127.5 - 1
    return Denoiser(pipe, images, bf16=bf16)


def run(
    captions: Path, images: Path, clip: str, out: Path, recipe: str = "paper", host: str | None = None,
    limit: int | None = None, quiet: bool = False, **changes: Any,
) -> dict[str, Any]:  # fmt: skip
    """Train by `recipe`, with `changes` to its settings, and write an open_clip folder to `out`."""
    from negclip_core.checkpoints import write_open_clip_folder
    from negclip_core.clip import load_clip
    from negclip_core.errors import RequestError
    from negclip_core.files import make_output_folder, provenance, sha256_file
    from negclip_core.training.data import TrainingSet, read_captions, split_rows
    from negclip_core.training.features import image_features
    from negclip_core.training.loop import train
    from negclip_core.training.recipe import load_recipe

    settings = load_recipe(recipe, **changes)
    if settings.needs_host() and host is None:
        raise RequestError(f"recipe {recipe!r} asks a diffusion host; name it with --host")
    base = load_clip(clip)
    records = read_captions(captions)[:limit]
    make_output_folder(out)
    features = image_features(base, images, [record.file_name for record in records], out, quiet=quiet)
    data = TrainingSet.make(records, features, base.tokenizer)
    seen_by_host = (
        _host(host, images, list(features), settings.bf16) if host and settings.needs_host() else None
    )
    log = out / "log.jsonl"

    def report(entry: dict[str, Any]) -> None:
        with log.open("a", encoding="utf-8") as file:
            file.write(json.dumps(entry) + "\n")

    outcome = train(base.model, data, split_rows(records, settings.split), settings, checkpoint=out / "run.ckpt",
                    host=seen_by_host, quiet=quiet, report=report)  # fmt: skip
    made_by = {
        "base": {"name": clip, "sha256": base.sha256},
        "captions": {"name": captions.name, "sha256": sha256_file(captions), "read": len(records)},
        "recipe": {"name": recipe, **asdict(settings)},
        "validation_loss": outcome.validation_loss,
        **provenance(),
    }
    write_open_clip_folder(out, outcome.weights, base.config, preprocess=base.checkpoint.preprocess, made_by=made_by,
                           tokenizer_folder=base.checkpoint.tokenizer_folder)  # fmt: skip
    return {
        "checkpoint": str(out),
        "best_epoch": outcome.best_epoch,
        "validation_loss": outcome.validation_loss,
        "pairs": len(records),
        "seconds": outcome.seconds,
        "samples_per_second": outcome.samples_per_second,
    }


def register(app: typer.Typer) -> None:
    """Add the verb to the command line."""

    @app.command()
    def train(
        captions: Annotated[
            Path, typer.Option(help="COCO captions JSON with updated_caption (negclip synthesize).")
        ],
        images: Annotated[Path, typer.Option(help="The folder of its images.")],
        clip: Annotated[str, typer.Option(help="The CLIP to start from: a name, hub id, folder or file.")],
        recipe: Annotated[
            str, typer.Option("--objective", help="A recipe: paper, tokens, host, ... or a file.")
        ] = "paper",
        host: Annotated[
            str | None, typer.Option(help="The diffusion model that the recipe host asks.")
        ] = None,
        epochs: Annotated[
            int | None, typer.Option(help="Passes over the captions. [default: the recipe's]")
        ] = None,
        batch_size: Annotated[
            int | None, typer.Option(help="Captions a step. [default: the recipe's]")
        ] = None,
        learning_rate: Annotated[float | None, typer.Option(help="[default: the recipe's]")] = None,
        split: Annotated[str | None, typer.Option(help="image, or caption as the public code does.")] = None,
        limit: Annotated[int | None, typer.Option(help="Read this many captions only.")] = None,
        seed: Annotated[
            int, typer.Option(help="Of the order of the captions and all else that is random.")
        ] = 0,
        out: Out = Path("out"),
        as_json: AsJson = False,
        quiet: Quiet = False,
    ) -> None:
        """Fine-tune a CLIP's text tower on negated captions; repeating the command goes on where it stopped."""
        from pipelines.cli import show

        result = run(captions, images, clip, out, recipe, host, limit, quiet, epochs=epochs, batch_size=batch_size,
                     learning_rate=learning_rate, split=split, seed=seed)  # fmt: skip
        show(
            result,
            as_json,
            [
                f"{result['checkpoint']}: best epoch {result['best_epoch']} of {len(result['validation_loss'])}"
            ],
        )
