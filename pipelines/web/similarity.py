"""The tab of similarity: a photograph and texts, and how well each fits, vanilla CLIP beside NegationCLIP."""

import html
from typing import Any

import gradio as gr

from negclip_core.errors import RequestError
from pipelines.score import run
from pipelines.web.examples import text_examples
from pipelines.web.limits import CHARACTERS, MOST_TEXTS, check_text, in_a_line, photograph, picture_of
from pipelines.web.room import ARMS, Room, shown_name

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
            picture = picture_of(photo)
            with room.busy:
                return _bars(run([str(picture)], lines, room.clip, list(ARMS), room.device, room.shelf))

    compare.click(scored, [photo, texts], bars, api_name="similarity", **queued)


def _bars(result: dict[str, Any]) -> str:
    """A block for each text: a bar for each arm, as long as the text's share, and the cosine beside it."""
    blocks = []
    for number, text in enumerate(result["texts"]):
        rows = "".join(
            f'<div class="bar {arm}"><span class="who">{shown_name(arm)}</span>'
            f'<span class="track"><i style="width:{100 * own["probability"][0][number]:.1f}%"></i></span>'
            f'<span class="share">{own["probability"][0][number]:.0%}</span>'
            f'<span class="cosine">{own["similarity"][0][number]:.3f}</span></div>'
            for arm, own in result["arms"].items()
        )
        blocks.append(f'<div class="text"><p>{html.escape(text)}</p>{rows}</div>')
    note = "Bars: a softmax over the texts. Small figures: cosines."
    return f'<div class="bars">{"".join(blocks)}</div><p class="note">{note}</p>'
