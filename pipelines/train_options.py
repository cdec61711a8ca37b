"""The options of `negclip train`. Where one is not given it is None, so that one that does nothing can be refused."""

from pathlib import Path
from typing import Annotated

import typer

__all__ = [
    "BatchSize",
    "Beside",
    "Bf16",
    "Captions",
    "Data",
    "Epochs",
    "HostName",
    "Images",
    "LearningRate",
    "Limit",
    "LoraRank",
    "MostBad",
    "OrderSeed",
    "Patience",
    "RecipeName",
    "SegmenterName",
    "SplitBy",
    "StartingClip",
    "Steps",
    "TaskName",
    "TensorBoard",
]

Captions = Annotated[
    Path | None,
    typer.Option(
        help="Captions with updated_caption (negclip synthesize): COCO JSON, .jsonl, .parquet, or webdataset shards."
    ),
]
Images = Annotated[Path | None, typer.Option(help="The folder of their images, or of the shards.")]
StartingClip = Annotated[
    str | None,
    typer.Option(help="The CLIP to start from: miniature, ViT-B-32, ..., a hub id, a folder or a file."),
]
RecipeName = Annotated[
    str | None,
    typer.Option(help="A recipe: paper, tokens, host, ... or a file. [default: paper]"),
]
HostName = Annotated[
    str | None,
    typer.Option(
        help="clipseg: train a segmenter's decoder instead. Else the diffusion model that the recipes host and host-ways ask."
    ),
]
Data = Annotated[Path | None, typer.Option(help="For clipseg: the folder of a task's files and images.")]
TaskName = Annotated[
    str | None,
    typer.Option(help="For clipseg: whose training split is read (eval --list). [default: refcocog]"),
]
SegmenterName = Annotated[
    str | None, typer.Option(help="For clipseg: the segmenter to start from. [default: miniature]")
]
Beside = Annotated[
    str | None,
    typer.Option(help="For clipseg: the CLIP beside whose text tower it is trained. [default: its own]"),
]
Steps = Annotated[int | None, typer.Option(help="For clipseg. [default: 20000]")]
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
Limit = Annotated[int | None, typer.Option(min=1, help="Read this many captions, or expressions, only.")]
TensorBoard = Annotated[
    bool | None,
    typer.Option("--tensorboard", help="Write the losses for TensorBoard too, to OUT/tensorboard."),
]
MostBad = Annotated[
    float | None,
    typer.Option(min=0, max=1, help="Share of images that may be missing or broken. [default: 0.01]"),
]
OrderSeed = Annotated[int, typer.Option(help="Of the order of the captions and all else that is random.")]
