"""`negclip miniature export|build`: the drawn world as public data sets' files, and its models trained again."""

from pathlib import Path
from typing import Annotated

import typer

from pipelines.options import AsJson, Out, Quiet, Seed

__all__ = ["register"]

miniature = typer.Typer(help="The drawn world, and the models trained on it.", no_args_is_help=True)


@miniature.command()
def export(
    images: Annotated[int, typer.Option(help="Pictures to draw.")] = 1000,
    split: Annotated[str, typer.Option(help="train, validation or test.")] = "test",
    seed: Seed = 0,
    out: Out = Path("out"),
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Draw pictures and write them as COCO, RefCOCOg, VQAv2, VALSE and NegRefCOCOg files."""
    from pipelines.cli import show
    from pipelines.miniature.export import run

    result = run(out, images, seed, split, quiet)
    show(result, as_json, [f"{name}: {value}" for name, value in result.items()])


@miniature.command()
def build(
    part: Annotated[list[str] | None, typer.Option(help="Build this part only; repeat for more.")] = None,
    small: Annotated[
        bool, typer.Option("--small", help="A few steps of everything: it runs through, and learns nothing.")
    ] = False,
    threads: Annotated[int | None, typer.Option(help="Cores to use. [default: all]")] = None,
    out: Out = Path("build/miniature"),
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Train the shipped models again; killed at any time, the same command goes on."""
    from pipelines.cli import show
    from pipelines.miniature.build import Plan, run

    result = run(out, part or [], Plan.small() if small else Plan(), threads=threads, quiet=quiet)
    show(result, as_json, [f"{name}: {value}" for name, value in result.items()])


def register(app: typer.Typer) -> None:
    """Add the verb to the command line."""
    app.add_typer(miniature, name="miniature")
