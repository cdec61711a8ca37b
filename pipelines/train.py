"""`negclip train`: a NegationCLIP from captions that say what is absent."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from negclip_core.errors import RequestError
from pipelines.console import clean_output
from pipelines.options import AsJson, Device, Out, Quiet

__all__ = ["register", "run"]

_SEGMENTER = "clipseg"  # the host whose decoder, and not a text tower, is trained


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


Captions = Annotated[
    Path | None, typer.Option(help="COCO captions JSON with updated_caption (negclip synthesize).")
]
Images = Annotated[Path | None, typer.Option(help="The folder of its images.")]
StartingClip = Annotated[
    str | None, typer.Option(help="The CLIP to start from: a name, hub id, folder or file.")
]
RecipeName = Annotated[str, typer.Option("--objective", help="A recipe: paper, tokens, host, ... or a file.")]
HostName = Annotated[
    str | None,
    typer.Option(
        help="clipseg: train a segmenter's decoder instead. Else the diffusion model that the recipe host asks."
    ),
]
Data = Annotated[Path | None, typer.Option(help="For clipseg: the folder of a task's files and images.")]
TaskName = Annotated[str, typer.Option(help="For clipseg: whose training split is read (eval --list).")]
SegmenterName = Annotated[str, typer.Option(help="For clipseg: the segmenter to start from.")]
Beside = Annotated[
    str | None,
    typer.Option(help="For clipseg: the CLIP beside whose text tower it is trained. [default: its own]"),
]
Steps = Annotated[int, typer.Option(help="For clipseg.")]
Epochs = Annotated[int | None, typer.Option(help="Passes over the captions. [default: the recipe's]")]
BatchSize = Annotated[
    int | None, typer.Option(help="Captions a step. [default: the recipe's; 64 expressions]")
]
LearningRate = Annotated[float | None, typer.Option(help="[default: the recipe's; 0.001]")]
SplitBy = Annotated[str | None, typer.Option(help="image, or caption as the public code does.")]
Limit = Annotated[int | None, typer.Option(help="Read this many captions, or expressions, only.")]
OrderSeed = Annotated[int, typer.Option(help="Of the order of the captions and all else that is random.")]


def register(app: typer.Typer) -> None:
    """Add the verb to the command line."""

    @app.command()
    def train(
        captions: Captions = None,
        images: Images = None,
        clip: StartingClip = None,
        recipe: RecipeName = "paper",
        host: HostName = None,
        data: Data = None,
        task: TaskName = "refcocog",
        model: SegmenterName = "miniature",
        text_encoder: Beside = None,
        steps: Steps = 20_000,
        epochs: Epochs = None,
        batch_size: BatchSize = None,
        learning_rate: LearningRate = None,
        split: SplitBy = None,
        limit: Limit = None,
        seed: OrderSeed = 0,
        out: Out = Path("out"),
        device: Device = "auto",
        as_json: AsJson = False,
        quiet: Quiet = False,
    ) -> None:
        """Fine-tune a CLIP's text tower on negated captions; repeating the command goes on where it stopped."""
        from pipelines.cli import show

        if host == _SEGMENTER:
            if data is None:
                raise RequestError(
                    f"--host {_SEGMENTER}: needs --data, the folder of {task}'s files and images"
                )
            from pipelines import train_segmenter

            given: dict[str, Any] = {"batch_size": batch_size, "learning_rate": learning_rate}
            request = train_segmenter.Request(
                task, data, out, model, text_encoder, steps, limit=limit, seed=seed, device=device, quiet=quiet,
                **{name: value for name, value in given.items() if value is not None},
            )  # fmt: skip
            with clean_output():
                trained = train_segmenter.run(request)
            line = (
                f"{trained['checkpoint']}: {trained['steps']} steps on {trained['expressions']} expressions"
            )
            return show(trained, as_json, [line])
        if captions is None or images is None or clip is None:
            raise RequestError(
                "a text tower is trained on --captions and their --images, starting from --clip"
            )
        result = run(captions, images, clip, out, recipe, host, limit, quiet, epochs=epochs, batch_size=batch_size,
                     learning_rate=learning_rate, split=split, seed=seed)  # fmt: skip
        best, last = result["best_epoch"], len(result["validation_loss"])
        show(result, as_json, [f"{result['checkpoint']}: best epoch {best} of {last}"])
