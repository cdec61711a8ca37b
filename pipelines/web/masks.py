"""The tab of masks: a photograph and an expression, and what vanilla CLIP and NegationCLIP mark, under one slider."""

import html
from collections.abc import Iterator
from typing import Any

import gradio as gr
import numpy as np
from PIL import Image

from integrations.referring import WAYS
from negclip_core.errors import RequestError
from negclip_core.images import open_image
from pipelines.console import overheard
from pipelines.overlay import tinted
from pipelines.segment import run
from pipelines.segmenter import shrunk
from pipelines.web.examples import expression_examples
from pipelines.web.limits import CHARACTERS, check_text, in_a_line, photograph, picture_of
from pipelines.web.room import Room, shown_name

__all__ = ["masks_tab"]

_ALONE = "none"
_REFINING = "sam sharpens what is marked; sam-proposals has the text choose among all that it can cut out."
_SIDE = 512  # pixels that a small picture is enlarged to, without smoothing


def masks_tab(room: Room, **queued: Any) -> None:
    """Add the tab's parts to the page that is being made; `queued` goes to the event that segments."""
    with gr.Row(elem_classes="work"):
        with gr.Column(scale=2, min_width=300, elem_classes="ask"):
            photo = photograph()
            expression = gr.Textbox(
                label="What to find", placeholder="the man without a hat", max_length=CHARACTERS
            )
            refine = gr.Radio(
                [_ALONE, *WAYS], value=_ALONE, label="Refine by Segment Anything", info=_REFINING
            )
            find = gr.Button("Find", variant="primary")
            with gr.Column(elem_classes="later"):
                gr.Examples(expression_examples(room.examples), [photo, expression], label="Examples")
        with gr.Column(scale=4, min_width=320, elem_classes="answer"):
            slider = gr.ImageSlider(label="vanilla | NegationCLIP", format="png",
                                    interactive=False, buttons=["fullscreen"], max_height=560)  # fmt: skip
            table = gr.HTML(padding=False)
            files = gr.File(label="Download masks (what made a mask is in its PNG text)", file_count="multiple",
                            interactive=False, visible=False)  # fmt: skip

    def found(photo: str | None, expression: str, refine: str) -> Iterator[list[Any]]:
        with in_a_line():
            yield from _find(room, photo, expression, refine)

    gr.on([find.click, expression.submit], found, [photo, expression, refine], [slider, table, files],
          api_name="masks", show_progress_on=table, **queued)  # fmt: skip


def _find(room: Room, photo: str | None, expression: str, refine: str) -> Iterator[list[Any]]:
    check_text(expression, "expression")
    if not expression.strip():
        raise RequestError("the expression is empty: name what to find, such as 'the man without a hat'")
    path = picture_of(photo)
    with room.scratch() as out:
        request = room.segmenting(path, expression, out, None if refine == _ALONE else refine)
        with room.busy, overheard() as notes:
            result = run(request, room.shelf)
        image = shrunk(open_image(path))
        pair = tuple(_enlarged(tinted(image, _mask(row["path"], image.size))) for row in result["masks"])
        paths = [row["path"] for row in result["masks"]] + [result["overlay"]]
        # A generator, so that the folder is there until the page has its own copies.
        yield [pair, _table(result["masks"], notes), gr.File(paths, visible=True)]


def _mask(path: str, size: tuple[int, int]) -> np.ndarray:
    return np.asarray(Image.open(path).resize(size, Image.Resampling.NEAREST)) > 0


def _enlarged(image: Image.Image) -> Image.Image:
    scale = max(1, _SIDE // max(image.size))
    return image.resize((image.width * scale, image.height * scale), Image.Resampling.NEAREST)


def _table(masks: list[dict[str, Any]], notes: list[str]) -> str:
    rows = "".join(
        f"<tr><td>{shown_name(row['arm'])}</td><td>{row['score']:.2f}</td>"
        f"<td>{f'''{row['area_fraction']:.1%} of the picture''' if row['found'] else 'nothing found'}</td></tr>"
        for row in masks
    )
    said = "".join(f'<p class="note">{html.escape(note)}</p>' for note in notes)
    return f'<table class="figures"><tr><th></th><th>presence</th><th>marked</th></tr>{rows}</table>{said}'
