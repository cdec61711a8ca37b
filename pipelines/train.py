"""`negclip train`: a NegationCLIP from captions that say what is absent."""

import json
from collections.abc import Container
from contextlib import nullcontext
from dataclasses import asdict
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer

from negclip_core.errors import RequestError, UnfinishedWork
from pipelines.console import clean_output, pick_device
from pipelines.options import AsJson, Device, Out, Quiet

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from negclip_core.clip import Clip
    from negclip_core.training.data import TrainingSet
    from negclip_core.training.features import Features
    from negclip_core.training.loop import Outcome
    from negclip_core.training.tables import CaptionTables

__all__ = ["register", "run"]

_SEGMENTER = "clipseg"  # the host whose decoder, and not a text tower, is trained


def _host(
    name: str, folder: Path, names: tuple[str, ...], bad: Container[str], bf16: bool, device: "torch.device"
) -> tuple[Any, str]:
    """The frozen diffusion host that a recipe asks, over the training images, and its SHA-256; `bad` ones are never asked for."""
    import numpy as np
    import torch

    from integrations.denoiser import Denoiser
    from negclip_core.images import open_image
    from negclip_core.training.shards import open_named
    from pipelines.host import load_host

    found = load_host(name, str(device))
    pipe = found.pipe.to(torch.float32)
    side = pipe.vae.config.sample_size
    pixels = np.zeros((len(names), side, side, 3), np.uint8)
    for row, name_of_image in enumerate(names):
        if name_of_image not in bad:
            with open_named(folder, name_of_image) as content:
                pixels[row] = open_image(folder / name_of_image, content).resize((side, side))
    images = torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 127.5 - 1
    return Denoiser(pipe, images, bf16=bf16), found.sha256


class _Read(NamedTuple):
    """What a run has read of its captions and images."""

    data: "TrainingSet"
    captions: "CaptionTables"
    features: "Features"
    sha256: str  # of the captions


def _read(
    captions: Path, images: Path, base: "Clip", out: Path, limit: int | None, most_bad: float, quiet: bool
) -> _Read:
    """Captions are kept in `out`/captions, features of images in the hub's cache, where later runs find them."""
    from negclip_core.files import atomic_write_text
    from negclip_core.training.captions_file import fingerprint, read_captions
    from negclip_core.training.data import TrainingSet
    from negclip_core.training.features import image_features, kept_features
    from negclip_core.training.tables import caption_tables
    from negclip_core.training.text import reads_padding

    padded = reads_padding(base.model)
    digest = fingerprint(captions)
    tables = caption_tables(islice(read_captions(captions), limit), base.tokenizer, out / "captions",
                            key=f"{digest} {limit} {base.sha256}" + " padded" * padded, padded=padded, quiet=quiet)  # fmt: skip
    features = image_features(
        base, images, list(tables.images), kept_features(base), most_bad=most_bad, quiet=quiet
    )
    if features.bad:
        lines = [json.dumps({"file_name": name, "why": why}) for name, why in features.bad.items()]
        atomic_write_text(out / "bad_images.jsonl", "\n".join(lines) + "\n")
    data = TrainingSet.make(tables, features, base.tokenizer, padded, base.device)
    return _Read(data, tables, features, digest)


def _ways(host: Any, base: "Clip", read: _Read, rows: "Tensor", split: str, quiet: bool) -> "Tensor":
    """The ways through the host, kept in the hub's cache for other runs on the same captions."""
    from filelock import FileLock
    from huggingface_hub import cached_assets_path

    from negclip_core.training.host_ways import host_ways, key_of

    weights = {"latents": host.latents, **host.unet.state_dict()}
    key = key_of(read.sha256, len(read.captions), split, base.sha256, weights)
    store = Path(cached_assets_path("negclip", "ways")) / f"{key}.safetensors"
    # Two runs may need the same ways at once: the second waits, and finds them.
    with FileLock(store.with_suffix(".lock")):
        return host_ways(base.model, read.data, rows, host, store, quiet=quiet)


def _write(out: Path, outcome: "Outcome", base: "Clip", made_by: dict[str, Any]) -> None:
    """The trained CLIP as an open_clip folder; low-rank updates by themselves too."""
    from negclip_core.checkpoints import write_open_clip_folder
    from negclip_core.files import write_safetensors
    from negclip_core.training.low_rank import LORA_FILE

    try:
        write_open_clip_folder(out, outcome.weights, base.config, preprocess=base.checkpoint.preprocess,
                               made_by=made_by, tokenizer_folder=base.checkpoint.tokenizer_folder)  # fmt: skip
        if outcome.low_rank:
            low_rank = {name: tensor.contiguous() for name, tensor in outcome.low_rank.items()}
            write_safetensors(low_rank, out / LORA_FILE)
    except OSError as error:
        raise UnfinishedWork(
            f"{out}: the trained CLIP cannot be written ({error.strerror}); its training is kept: make room, and repeat "
            "the command"
        ) from error


def run(
    captions: Path, images: Path, clip: str, out: Path, recipe: str = "paper", host: str | None = None,
    limit: int | None = None, max_bad_images: float = 0.01, tensorboard: bool = False, device: str = "cpu",
    quiet: bool = False, **changes: Any,
) -> dict[str, Any]:  # fmt: skip
    """Train by `recipe`, with `changes` to its settings, and write an open_clip folder to `out`."""
    from negclip_core.clip import load_clip
    from negclip_core.files import alone_in, make_output_folder, provenance
    from negclip_core.training import processes
    from negclip_core.training.data import split_rows
    from negclip_core.training.loop import train
    from negclip_core.training.recipe import load_recipe
    from pipelines.watch import Watch

    settings = load_recipe(recipe, **changes)
    if (settings.asks_host() or settings.needs_host_ways()) and host is None:
        raise RequestError(f"recipe {recipe!r} asks a diffusion host; name it with --host")
    watch = Watch(out, f"{clip}: {recipe}", tensorboard)
    base = load_clip(clip, device=processes.my_device(device))
    make_output_folder(out)
    with alone_in(out) if processes.is_first() else nullcontext():
        read = _read(captions, images, base, out, limit, max_bad_images, quiet)
        rows = split_rows(read.captions, settings.split)
        asked = ways = host_sha256 = None
        if host and (settings.asks_host() or settings.needs_host_ways()):
            asked, host_sha256 = _host(
                host, images, read.captions.images, read.features.bad, settings.bf16, base.device
            )
        if settings.needs_host_ways():
            ways = _ways(asked, base, read, rows[0], settings.split, quiet)
        made_of = {"captions (SHA-256)": read.sha256, "clip (SHA-256)": base.sha256, "host (SHA-256)": host_sha256,
                   "limit": limit, "images that cannot be read": len(read.features.bad)}  # fmt: skip
        outcome = train(base.model, read.data, rows, settings, checkpoint=out / "run.ckpt", ways=ways, made_of=made_of,
                        host=asked if settings.asks_host() else None, report=watch.report, begun=watch.begun, quiet=quiet)  # fmt: skip
        made_by = {
            "base": {"name": clip, "sha256": base.sha256},
            "captions": {"name": captions.name, "sha256": read.sha256, "read": len(read.captions)},
            "recipe": {"name": recipe, **asdict(settings)},
            "validation_loss": outcome.validation_loss,
            **provenance(),
        }
        if processes.is_first():
            _write(out, outcome, base, made_by)
    processes.wait()
    return {
        "checkpoint": str(out),
        "best_epoch": outcome.best_epoch,
        "validation_loss": outcome.validation_loss,
        "pairs": len(read.captions),
        "bad_images": len(read.features.bad),
        "processes": processes.count(),
        "seconds": outcome.seconds,
        "samples_per_second": outcome.samples_per_second,
    }


def _train_segmenter(data: Path | None, **request: Any) -> dict[str, Any]:
    from pipelines import train_segmenter

    if data is None:
        raise RequestError(
            f"--host {_SEGMENTER}: needs --data, the folder of {request['task']}'s files and images"
        )
    with clean_output():
        return train_segmenter.run(train_segmenter.Request(data=data, **request))


Captions = Annotated[
    Path | None,
    typer.Option(
        help="Captions with updated_caption (negclip synthesize): COCO JSON, .jsonl, .parquet, or webdataset shards."
    ),
]
Images = Annotated[Path | None, typer.Option(help="The folder of their images, or of the shards.")]
StartingClip = Annotated[
    str | None, typer.Option(help="The CLIP to start from: a name, hub id, folder or file.")
]
RecipeName = Annotated[str, typer.Option("--objective", help="A recipe: paper, tokens, host, ... or a file.")]
HostName = Annotated[
    str | None,
    typer.Option(
        help="clipseg: train a segmenter's decoder instead. Else the diffusion model that the recipes host and host-ways ask."
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
Patience = Annotated[
    int | None,
    typer.Option(min=1, help="Stop after so many epochs without a better validation loss. [default: never]"),
]
LoraRank = Annotated[
    int | None,
    typer.Option(min=0, help="Train low-rank updates only, and write them for load_lora_weights as well."),
]
Bf16 = Annotated[
    bool | None,
    typer.Option(
        "--bf16/--no-bf16", help="Compute in bfloat16 where that is faster. [default: the recipe's]"
    ),
]
SplitBy = Annotated[str | None, typer.Option(help="image, or caption as the public code does.")]
Limit = Annotated[int | None, typer.Option(help="Read this many captions, or expressions, only.")]
TensorBoard = Annotated[
    bool, typer.Option("--tensorboard", help="Write the losses for TensorBoard too, to OUT/tensorboard.")
]
MostBad = Annotated[float, typer.Option(min=0, max=1, help="Share of images that may be missing or broken.")]
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
        patience: Patience = None,
        lora_rank: LoraRank = None,
        bf16: Bf16 = None,
        split: SplitBy = None,
        limit: Limit = None,
        max_bad_images: MostBad = 0.01,
        tensorboard: TensorBoard = False,
        seed: OrderSeed = 0,
        out: Out = Path("out"),
        device: Device = "auto",
        as_json: AsJson = False,
        quiet: Quiet = False,
    ) -> None:
        """Fine-tune a CLIP's text tower on negated captions; repeating the command goes on where it stopped."""
        from pipelines.cli import show

        if host == _SEGMENTER:
            given: dict[str, Any] = {"batch_size": batch_size, "learning_rate": learning_rate}
            trained = _train_segmenter(data, task=task, out=out, model=model, text_encoder=text_encoder, steps=steps,
                                       limit=limit, seed=seed, device=device, quiet=quiet,
                                       **{name: value for name, value in given.items() if value is not None})  # fmt: skip
            line = (
                f"{trained['checkpoint']}: {trained['steps']} steps on {trained['expressions']} expressions"
            )
            return show(trained, as_json, [line])
        if captions is None or images is None or clip is None:
            raise RequestError(
                "a text tower is trained on --captions and their --images, starting from --clip"
            )
        result = run(captions, images, clip, out, recipe, host, limit, max_bad_images, tensorboard, pick_device(device), quiet,
                     epochs=epochs, batch_size=batch_size, learning_rate=learning_rate, patience=patience,
                     lora_rank=lora_rank, bf16=bf16, split=split, seed=seed)  # fmt: skip
        from negclip_core.training import processes

        best, last = result["best_epoch"], len(result["validation_loss"])
        if processes.is_first():
            show(result, as_json, [f"{result['checkpoint']}: best epoch {best} of {last}"])
