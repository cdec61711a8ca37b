"""Arguments and options that several verbs share, declared once."""

from pathlib import Path
from typing import Annotated

import typer

__all__ = ["AsJson", "Device", "Gate", "Lora", "Model", "Out", "Quiet", "Seed", "TextEncoder"]

AsJson = Annotated[
    bool, typer.Option("--json", help="Print one JSON document on standard output, nothing else.")
]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")]
Gate = Annotated[
    bool,
    typer.Option("--gate/--no-gate", help="Send prompts without a negation to the host's own text encoder."),
]
Lora = Annotated[
    str | None,
    typer.Option(help="A LoRA for the model: a shipped name, a hub id, a folder or a .safetensors file."),
]
Model = Annotated[str, typer.Option(help="A shipped name, a hub id or a folder: a diffusers pipeline.")]
Out = Annotated[Path, typer.Option(help="The folder to write to; made if need be.")]
Quiet = Annotated[bool, typer.Option("--quiet", help="No messages and no progress bars.")]
Seed = Annotated[int, typer.Option(help="The first seed, 0 or more.")]
TextEncoder = Annotated[
    str | None,
    typer.Option(
        help="A shipped name, a hub id, a folder or a file: a CLIP. [default: the model's NegationCLIP]"
    ),
]
