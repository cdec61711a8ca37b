"""`negclip train`: a NegationCLIP from captions that say what is absent."""

from contextlib import nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from negclip_core.errors import RequestError, UnfinishedWork
from pipelines import train_options as options
from pipelines.console import clean_output, pick_device
from pipelines.options import AsJson, Device, Out, Quiet
from pipelines.train_inputs import Read, load_base, load_denoiser, read_inputs, ways_through

if TYPE_CHECKING:
    from negclip_core.clip import Clip
    from negclip_core.training.loop import Outcome

__all__ = ["register", "run"]

_SEGMENTER = "clipseg"  # the host whose decoder, and not a text tower, is trained


def _write(out: Path, outcome: "Outcome", base: "Clip", made_by: dict[str, Any]) -> None:
    """The trained CLIP as an open_clip folder; low-rank updates by themselves too."""
    from negclip_core.checkpoints import write_open_clip_folder
    from negclip_core.files import write_safetensors
    from negclip_core.models import LORA_FILE

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
    from negclip_core.files import alone_in, make_output_folder, provenance
    from negclip_core.training import processes
    from negclip_core.training.loop import train
    from negclip_core.training.objectives import create_all
    from negclip_core.training.recipe import load_recipe
    from pipelines.watch import Watch

    settings = load_recipe(recipe, **changes)
    create_all(settings.objectives)  # of wrong ones they are told before anything is read or written
    of_host = settings.asks_host() or settings.needs_host_ways()
    if of_host and host is None:
        raise RequestError(f"recipe {recipe!r} asks a diffusion host; name it with --host")
    mine = processes.my_device(device)
    watch = Watch(out, f"{clip}: {recipe}", tensorboard)
    base = load_base(clip, mine)
    make_output_folder(out)
    with alone_in(out) if processes.is_first() else nullcontext():
        read = read_inputs(captions, images, base, out, limit, settings.split, max_bad_images, quiet)
        asked = ways = None
        if host and of_host:
            asked = load_denoiser(
                host, images, read.captions.images, read.features.bad, settings.bf16, base.device
            )
            if settings.needs_host_ways():
                ways = ways_through(asked, base, read, quiet)
        made_of = {"captions (SHA-256)": read.sha256, "clip (SHA-256)": base.sha256, "host (SHA-256)": asked and asked.sha256,
                   "limit": limit, "images that cannot be read": len(read.features.bad)}  # fmt: skip
        outcome = train(base.model, read.data, read.rows, settings, checkpoint=out / "run.ckpt", ways=ways, made_of=made_of,
                        host=asked.denoiser if asked and settings.asks_host() else None, report=watch.report, begun=watch.begun, quiet=quiet)  # fmt: skip
        made_by = {
            "base": {"name": clip, "sha256": base.sha256},
            "captions": {
                "name": captions.name,
                "sha256": read.sha256,
                "read": len(read.captions),
                "passed_over": read.captions.passed_over,
            },
            "recipe": {"name": recipe, **asdict(settings)},
            "validation_loss": outcome.validation_loss,
            **provenance(),
        }
        if processes.is_first():
            _write(out, outcome, base, made_by)
    processes.wait()
    return _told(out, outcome, read)


def _told(out: Path, outcome: "Outcome", read: Read) -> dict[str, Any]:
    """The JSON document of the command line."""
    from negclip_core.training import processes

    return {
        "checkpoint": str(out),
        "best_epoch": outcome.best_epoch,
        "validation_loss": outcome.validation_loss,
        "pairs": len(read.captions),
        "passed_over": read.captions.passed_over,
        "bad_images": len(read.features.bad),
        "processes": processes.count(),
        "seconds": outcome.seconds,
        "samples_per_second": outcome.samples_per_second,
    }


def _train_segmenter(asked: dict[str, Any]) -> tuple[dict[str, Any], str]:
    """What came of it, and a line for a person."""
    from pipelines import train_segmenter

    if "data" not in asked:
        raise RequestError(f"--host {_SEGMENTER}: needs --data, the folder of the task's files and images")
    with clean_output():
        trained = train_segmenter.run(train_segmenter.Request(**asked))
    return trained, f"{asked['out']}: {trained['steps']} steps on {trained['expressions']} expressions"


def _train_tower(asked: dict[str, Any]) -> tuple[dict[str, Any], str]:
    """What came of it, and a line for a person."""
    if not {"captions", "images", "clip"} <= asked.keys():
        raise RequestError("a text tower is trained on --captions and their --images, starting from --clip")
    asked["recipe"] = asked.pop("objective", "paper")
    trained = run(**{**asked, "device": pick_device(asked["device"])})
    best, last = trained["best_epoch"], len(trained["validation_loss"])
    return trained, f"{asked['out']}: best epoch {best} of {last}"


def _given(asked: dict[str, Any]) -> dict[str, Any]:
    """The options that are given; the others keep their defaults."""
    return {name: value for name, value in asked.items() if value is not None}


def _check_none(asked: dict[str, Any], why: str) -> None:
    """Raise RequestError where one of the options is given."""
    if given := list(_given(asked)):
        raise RequestError(
            f"--{given[0].replace('_', '-')}: does nothing {why} --host {_SEGMENTER}; leave it out"
        )


def register(app: typer.Typer) -> None:
    """Add the verb to the command line."""

    @app.command()
    def train(
        captions: options.Captions = None,
        images: options.Images = None,
        clip: options.StartingClip = None,
        objective: options.RecipeName = None,
        host: options.HostName = None,
        data: options.Data = None,
        task: options.TaskName = None,
        model: options.SegmenterName = None,
        text_encoder: options.Beside = None,
        steps: options.Steps = None,
        epochs: options.Epochs = None,
        batch_size: options.BatchSize = None,
        learning_rate: options.LearningRate = None,
        patience: options.Patience = None,
        lora_rank: options.LoraRank = None,
        bf16: options.Bf16 = None,
        split: options.SplitBy = None,
        limit: options.Limit = None,
        max_bad_images: options.MostBad = None,
        tensorboard: options.TensorBoard = None,
        seed: options.OrderSeed = 0,
        out: Out = Path("out"),
        device: Device = "auto",
        as_json: AsJson = False,
        quiet: Quiet = False,
    ) -> None:
        """Fine-tune a CLIP's text tower on negated captions; repeating the command goes on where it stopped."""
        from pipelines.cli import show

        both = {"out": out, "batch_size": batch_size, "learning_rate": learning_rate, "limit": limit, "seed": seed,
                "device": device, "quiet": quiet}  # fmt: skip
        of_segmenter = {
            "data": data,
            "task": task,
            "model": model,
            "text_encoder": text_encoder,
            "steps": steps,
        }
        of_tower = {"captions": captions, "images": images, "clip": clip, "objective": objective, "epochs": epochs,
                    "patience": patience, "lora_rank": lora_rank, "bf16": bf16, "split": split,
                    "max_bad_images": max_bad_images, "tensorboard": tensorboard}  # fmt: skip
        if host == _SEGMENTER:
            _check_none(of_tower, "with")
            trained, line = _train_segmenter(_given({**both, **of_segmenter}))
        else:
            _check_none(of_segmenter, "without")
            trained, line = _train_tower(_given({**both, **of_tower, "host": host}))
        from negclip_core.training import processes

        if processes.is_first():
            show(trained, as_json, [line])
