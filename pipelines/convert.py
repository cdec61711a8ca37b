"""`negclip convert`: a CLIP's checkpoint in another layout."""

from pathlib import Path
from typing import Annotated, Any

import typer

from pipelines.console import warn
from pipelines.options import AsJson, Quiet

__all__ = ["register", "run"]


def run(
    source: str, out: Path, layout: str, architecture: str | None = None, quiet: bool = False
) -> dict[str, Any]:
    """Convert, and return the JSON document of the command line.

    Raises:
        RequestError: the source is no CLIP, or the layout cannot hold it.
    """
    from negclip_core.clip import load_clip
    from negclip_core.convert import architecture_of, write_checkpoint
    from negclip_core.files import provenance
    from negclip_core.layouts.image_processor import is_openais

    clip = load_clip(source, architecture)
    made_by = {"converted_from": {"name": source, "layout": clip.checkpoint.layout, "sha256": clip.sha256},
               **provenance()}  # fmt: skip
    written, tensors = write_checkpoint(clip.checkpoint, out, layout, made_by)
    if layout == "openai" and not is_openais(clip.checkpoint.preprocess):
        warn("openai's layout does not say how pictures are prepared, and this CLIP's are not as OpenAI's; tell who reads the "
             "file, or choose open_clip or transformers", quiet)  # fmt: skip
    return {
        "in": source, "out": str(out), "layout": layout, "architecture": architecture or architecture_of(clip.config),
        "tensors": tensors, "sha256": written,
    }  # fmt: skip


def register(app: typer.Typer) -> None:
    """Add the verb to the command line."""

    @app.command()
    def convert(
        source: Annotated[
            str, typer.Argument(metavar="IN", help="A shipped name, a hub id, a folder or a file: a CLIP.")
        ],
        out: Annotated[Path, typer.Argument(metavar="OUT", help="A file, or a folder, as the layout asks.")],
        layout: Annotated[
            str,
            typer.Option("--to", help="openai, comfyui (files), open_clip or transformers (folders)."),
        ],
        architecture: Annotated[
            str | None,
            typer.Option(help="open_clip's name for it, where a bare file does not say (heads, activation)."),
        ] = None,
        as_json: AsJson = False,
        quiet: Quiet = False,
    ) -> None:
        """Write a CLIP in another layout: the same tensors, in the dtypes that they came in."""
        from pipelines.cli import show

        result = run(source, out, layout, architecture, quiet)
        show(result, as_json, [f"{result['out']}: {result['tensors']} tensors, SHA-256 {result['sha256']}"])
