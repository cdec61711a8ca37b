"""The tab of similarity: a photograph and texts, and how well each fits, vanilla CLIP beside NegationCLIP."""

import html
from typing import Any

import gradio as gr

from negclip_core.errors import RequestError
from negclip_core.images import open_image
from pipelines.score import check_texts, similarities
from pipelines.web.examples import text_examples
from pipelines.web.limits import CHARACTERS, MOST_TEXTS, check_text, in_a_line, photograph, picture_of
from pipelines.web.room import Room, shown_name

__all__ = ["similarity_tab"]


def similarity_tab(room: Room, **queued: Any) -> None:
    """Add the tab's parts to the page that is being made; `queued` goes to the event that scores."""
    with gr.Row(elem_classes="work"):
        with gr.Column(scale=2, min_width=300, elem_classes="ask"):
            photo = photograph()
            texts = gr.Textbox(
                label="Texts, a line each",
                lines=3,
                max_lines=MOST_TEXTS,
                max_length=MOST_TEXTS * (CHARACTERS + 1),
            )
            compare = gr.Button("Compare", variant="primary")
            with gr.Column(elem_classes="later"):
                gr.Examples(
                    text_examples(room.examples), [photo, texts], label="Examples", visible_columns=[0]
                )
        with gr.Column(scale=4, min_width=320, elem_classes="answer"):
            bars = gr.HTML('<p class="note">How well each text fits the picture.</p>', padding=False)

    def scored(photo: str | None, texts: str) -> str:
        with in_a_line():
            lines = [check_text(line.strip(), "text") for line in texts.splitlines() if line.strip()]
            if len(lines) > MOST_TEXTS:
                raise RequestError(f"{len(lines)} texts: the page takes {MOST_TEXTS}; leave some out")
            if not lines:
                raise RequestError("no text: give one or more to compare the picture with")
            picture = picture_of(photo)
            with room.busy:
                check_texts(lines, room.clips)
                return _bars(lines, similarities([open_image(picture)], lines, room.clips))

    compare.click(scored, [photo, texts], bars, api_name="similarity", **queued)


def _bars(texts: list[str], arms: dict[str, dict[str, Any]]) -> str:
    """A block for each text, and in it a row for each arm: a bar as long as the text's share, and the cosine beside it.

    Of one text alone the share is all, whatever the picture: then there are cosines only.
    """
    several = len(texts) > 1
    blocks = []
    for number, text in enumerate(texts):
        rows = "".join(_row(arm, own, number, several) for arm, own in arms.items())
        blocks.append(f'<div class="text"><p>{html.escape(text)}</p>{rows}</div>')
    shares = "Bars: a softmax over the texts. Small figures: cosines."
    note = shares if several else "The figures are cosines. Give more texts to see how each fares among them."
    return f'<div class="bars">{"".join(blocks)}</div><p class="note">{note}</p>'


def _row(arm: str, own: dict[str, Any], number: int, several: bool) -> str:
    share = own["probability"][0][number]
    bar = (
        f'<span class="track"><i style="width:{100 * share:.1f}%"></i></span>'
        f'<span class="share">{share:.0%}</span>'
    )
    return (
        f'<div class="bar {arm}"><span class="who">{shown_name(arm)}</span>{bar if several else ""}'
        f'<span class="cosine">{own["similarity"][0][number]:.3f}</span></div>'
    )
