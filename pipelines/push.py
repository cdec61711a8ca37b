"""`negclip push`: a CLIP's folder on the Hugging Face hub."""

from pathlib import Path
from typing import Annotated

import typer

from pipelines.options import AsJson, Quiet

__all__ = ["register"]


def register(app: typer.Typer) -> None:
    """Add the verb to the command line."""

    @app.command()
    def push(
        folder: Annotated[
            Path, typer.Argument(metavar="FOLDER", help="A CLIP as negclip train or convert writes it.")
        ],
        repository: Annotated[str, typer.Argument(metavar="OWNER/NAME", help="Made if need be.")],
        private: Annotated[bool, typer.Option("--private", help="Make it private, if it is new.")] = False,
        as_json: AsJson = False,
        quiet: Quiet = False,
    ) -> None:
        """Upload a CLIP's folder to the Hugging Face hub; the token is read from HF_TOKEN or hf auth login."""
        from huggingface_hub.utils import disable_progress_bars

        from negclip_core.push import push as upload
        from pipelines.cli import show

        if quiet:
            disable_progress_bars()
        result = upload(folder, repository, private)
        show({"in": str(folder), "repository": repository, **result}, as_json, [result["url"]])
