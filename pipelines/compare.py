"""`negclip compare`: pictures or masks, and scores, vanilla CLIP beside NegationCLIP, on one page."""

import base64
import html
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from negclip_core.errors import RequestError
from negclip_core.files import atomic_write_text
from negclip_core.images import SUFFIXES, open_image
from pipelines.console import clean_output, pick_device
from pipelines.options import AsJson, Device, Gate, Model, Out, Quiet, Seed, TextEncoder
from pipelines.shelf import Shelf

__all__ = ["Request", "register", "run"]

_STYLE = """
body{font:15px/1.5 system-ui,sans-serif;margin:2rem auto;max-width:60rem;padding:0 1rem;color:#1c1c1e;background:#fcfbf8}
h1,h2{font-weight:600}img{max-width:100%;border-radius:4px}.note{color:#7a7874}.scroll{overflow-x:auto}
table{border-collapse:collapse;margin:1rem 0;font-variant-numeric:tabular-nums}
th,td{padding:.25rem .8rem;text-align:right;border-bottom:1px solid #e6e3dc}th:first-child,td:first-child{text-align:left}
"""


@dataclass(frozen=True)
class Request:
    """What was asked for: pictures are what names a file, all else are texts. None leaves a setting to the model."""

    things: tuple[str, ...]
    model: str = "miniature"
    text_encoder: str | None = None
    clip: str = "miniature"
    gate: bool = True
    count: int = 1
    refine: str | None = None
    out: Path = Path("out")
    seed: int = 0
    device: str = "auto"
    quiet: bool = False


def run(request: Request) -> dict[str, Any]:
    """Compare, write, and return the JSON document of the command line.

    Without a picture the texts are prompts: they are drawn, and what was drawn is scored. With pictures they are
    expressions: what they mean in each is segmented, and each picture is scored.

    Returns:
        {"generate": as `negclip generate` or None, "segment": a list as `negclip segment`, "score": as
        `negclip score`, "page": path}.

    Raises:
        RequestError: something about the request is wrong.
    """
    from negclip_core.language import parse
    from pipelines import generate, segment
    from pipelines.score import check_texts, load_pair, similarities

    photographs = [Path(thing) for thing in request.things if _is_picture(thing)]
    texts = [thing for thing in request.things if not _is_picture(thing)]
    _check(request, photographs, texts)
    # The affirmative rest beside each text: what "no" changes is the difference between the two.
    said = list(dict.fromkeys(each for text in texts for each in (text, parse(text).affirmative) if each))
    arms = load_pair(request.clip, request.text_encoder, pick_device(request.device), Shelf())
    check_texts(said, arms)
    common: dict[str, Any] = {
        "model": request.model, "text_encoder": request.text_encoder, "gate": request.gate, "compare": True,
        "out": request.out, "device": request.device, "quiet": request.quiet,
    }  # fmt: skip
    drawn, found = None, []
    if photographs:
        for photograph in photographs:
            found.append(
                segment.run(segment.Request(photograph, tuple(texts), refine=request.refine, **common))
            )
        scored = [str(photograph) for photograph in photographs]
    else:
        drawn = generate.run(generate.Request(tuple(texts), count=request.count, seed=request.seed, **common))
        scored = [image["path"] for image in drawn["images"]]
    pictures = [open_image(path) for path in scored]
    scores = {"arms": similarities(pictures, said, arms), "images": scored, "texts": said}
    page = request.out / "compare.html"
    document = {"generate": drawn, "segment": found, "score": scores, "page": str(page)}
    atomic_write_text(page, _page(request, document))
    return document


def _is_picture(thing: str) -> bool:
    # What ends as a picture's name does is one, there or not: a name with a slip in it is no prompt.
    try:
        return Path(thing).suffix.lower() in SUFFIXES or Path(thing).is_file()
    except OSError:  # a prompt may be longer than a file name
        return False


def _check(request: Request, photographs: Sequence[Path], texts: Sequence[str]) -> None:
    if not texts:
        raise RequestError("no text: give a prompt, or an expression beside a picture")
    if request.refine is not None and not photographs:
        raise RequestError(
            f"--refine {request.refine}: sharpens masks, and there is no picture to find any in"
        )
    if len({photograph.stem for photograph in photographs}) < len(photographs):
        raise RequestError("two pictures have the same name: their masks would overwrite each other")
    for photograph in photographs:
        open_image(photograph)


def _page(request: Request, document: dict[str, Any]) -> str:
    sheets = [each["overlay"] for each in document["segment"]]
    if document["generate"] is not None:
        sheets.append(document["generate"]["contact_sheet"])
    shown = "".join(f'<p><img alt="{html.escape(Path(path).stem)}" src="{_inline(path)}">' for path in sheets)
    title = "What these say is absent: vanilla CLIP, and NegationCLIP"
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>negclip compare</title><style>{_STYLE}</style>'
        f"<h1>{title}</h1>{shown}<h2>How well the texts fit the pictures</h2>"
        f"<p class=note>Cosines, and each picture's shares among the texts; CLIP {html.escape(request.clip)}.</p>"
        f"{_scores(document['score'])}</html>\n"
    )


def _scores(scores: dict[str, Any]) -> str:
    """A table for each picture: a row a text, a column an arm."""
    tables = []
    head = "".join(f"<th>{html.escape(arm)}</th>" for arm in scores["arms"])
    for i, image in enumerate(scores["images"]):
        rows = []
        for j, text in enumerate(scores["texts"]):
            cells = "".join(
                f"<td>{arm['similarity'][i][j]:.3f} ({arm['probability'][i][j]:.0%})</td>"
                for arm in scores["arms"].values()
            )
            rows.append(f"<tr><td>{html.escape(text)}</td>{cells}</tr>")
        name = html.escape(Path(image).name)
        tables.append(f"<div class=scroll><table><tr><th>{name}</th>{head}</tr>{''.join(rows)}</table></div>")
    return "".join(tables)


def _inline(path: str) -> str:
    return f"data:image/png;base64,{base64.b64encode(Path(path).read_bytes()).decode()}"


def _lines(document: dict[str, Any]) -> list[str]:
    from pipelines.score import table

    drawn = document["generate"]
    paths = [image["path"] for image in drawn["images"]] + [drawn["contact_sheet"]] if drawn else []
    for each in document["segment"]:
        paths += [mask["path"] for mask in each["masks"]] + [each["overlay"]]
    return [*table(document["score"]), "", *paths, document["page"]]


def register(app: typer.Typer) -> None:
    """Add the verb to the command line."""

    @app.command()
    def compare(
        things: Annotated[
            list[str],
            typer.Argument(
                metavar="PROMPT_OR_IMAGE",
                help="Prompts to draw; or pictures, and expressions to find in them.",
            ),
        ],
        model: Model = "miniature",
        text_encoder: TextEncoder = None,
        clip: Annotated[
            str,
            typer.Option(help="The CLIP that scores, beside --text-encoder or else its own NegationCLIP."),
        ] = "miniature",
        gate: Gate = True,
        count: Annotated[
            int, typer.Option("-n", help="Pictures for each prompt, with seeds counting up.")
        ] = 1,
        refine: Annotated[
            str | None, typer.Option(help="sam: sharpen masks. sam-proposals: choose among SAM's.")
        ] = None,
        out: Out = Path("out"),
        seed: Seed = 0,
        device: Device = "auto",
        as_json: AsJson = False,
        quiet: Quiet = False,
    ) -> None:
        """Compare vanilla CLIP and NegationCLIP on prompts or pictures: what they draw or find, and their scores."""
        from pipelines.cli import show

        with clean_output():
            result = run(Request(tuple(things), model, text_encoder, clip, gate, count, refine, out, seed,
                                 device, quiet))  # fmt: skip
        show(result, as_json, _lines(result))
