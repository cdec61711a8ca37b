"""The tab of pictures: a prompt, and what vanilla CLIP and NegationCLIP make of it, side by side as they form."""

import html
from collections.abc import Iterator
from queue import SimpleQueue
from threading import Event, Thread
from typing import TYPE_CHECKING, Any

import gradio as gr

from integrations.arms import VANILLA, arm_name
from integrations.methods import method_names
from integrations.preview import preview
from negclip_core.errors import RequestError
from pipelines.console import overheard
from pipelines.generate import Moment, Request, run
from pipelines.web.limits import CHARACTERS, MOST_PICTURES, MOST_STEPS, check_text, in_a_line
from pipelines.web.parsed import COLOURS, parts, summary
from pipelines.web.room import Room, shown_name

if TYPE_CHECKING:
    from PIL.Image import Image

__all__ = ["images_tab"]

_EXAMPLES = ("a street with no cars", "a park without trees", "a kitchen with no table", "a lake, but no boats and no people",
             "a street with a red car")  # fmt: skip
_METHODS = (
    "encoder, rephrased, both: NegationCLIP reads the prompt. The others keep the model's own encoder, and lead away from "
    "what is denied in guidance (negative-prompt, perp-neg) or in attention (nag, vsf)."
)
_PREVIEWS = 8  # of each picture as it forms
_SMALL = 256  # pixels a side; smaller pictures are enlarged without smoothing, to show what was drawn


def images_tab(room: Room, **queued: Any) -> None:
    """Add the tab's parts to the page that is being made; `queued` goes to the event that draws."""
    host = room.host
    with gr.Row(elem_classes="work"):
        with gr.Column(scale=2, min_width=300, elem_classes="ask"):
            prompt = gr.Textbox(_EXAMPLES[0], label="Prompt", lines=2, max_lines=4, max_length=CHARACTERS)
            parsed = gr.HighlightedText(parts(_EXAMPLES[0]), label="What is negated", color_map=COLOURS,
                                        show_whitespaces=False, elem_classes="parsed")  # fmt: skip
            said = gr.HTML(summary(_EXAMPLES[0]), padding=False)
            draw = gr.Button("Draw", variant="primary")
            with gr.Column(elem_classes="later"):
                method = gr.Dropdown(list(method_names()), value="encoder", label="Method", info=_METHODS)
                seed = gr.Number(0, label="Seed", precision=0)
            with gr.Accordion("More settings", open=False, elem_classes="later"):
                count = gr.Slider(1, MOST_PICTURES, 1, step=1, label="Pictures")
                steps = gr.Slider(
                    1, MOST_STEPS, host.default("steps", "num_inference_steps"), step=1, label="Steps"
                )
                scale = gr.Slider(0, 20, host.default("guidance_scale", "guidance_scale"), step=0.1,
                                  label="Guidance scale")  # fmt: skip
                gate = gr.Checkbox(
                    True, label="Gate: a prompt without negation goes to the model's own encoder"
                )
            with gr.Column(elem_classes="later"):
                gr.Examples([[each] for each in _EXAMPLES], prompt, label="Examples")
        with gr.Column(scale=4, min_width=320, elem_classes="answer"):
            with gr.Row(elem_classes="arms", equal_height=True):
                vanilla = _gallery(VANILLA, host)
                ours = _gallery("NegationCLIP", host)
            status = gr.HTML(_knows(host), padding=False)
            files = gr.File(label="Download (what made a picture is in its PNG text)", file_count="multiple",
                            interactive=False, visible=False)  # fmt: skip
    prompt.change(_parse, prompt, [parsed, said], queue=False, show_progress="hidden", api_name="parse")

    def drawn(
        prompt: str, seed: int | None, count: int, steps: int, guidance_scale: float, method: str, gate: bool
    ) -> Iterator[list[Any]]:
        with in_a_line():
            yield from _draw(room, prompt, seed, count, steps, guidance_scale, method, gate)

    gr.on([draw.click, prompt.submit], drawn, [prompt, seed, count, steps, scale, method, gate],
          [vanilla, ours, status, files], api_name="images", show_progress_on=status, **queued)  # fmt: skip


def _gallery(label: str, host: Any) -> gr.Gallery:
    side = (
        host.pipe.unet.config.sample_size * host.pipe.vae_scale_factor
        if hasattr(host.pipe, "unet")
        else _SMALL
    )
    small = ["small"] if side < _SMALL else []
    return gr.Gallery(label=label, columns=1, object_fit="contain", height=None, format="png", interactive=False,
                      min_width=140, buttons=["download", "fullscreen"], elem_classes=["arm", *small])  # fmt: skip


def _knows(host: Any) -> str:
    if "knows" not in host.about:
        return ""
    named = html.escape(host.about.get("name", host.name))
    return f'<p class="note">{named[:1].upper()}{named[1:]} knows {html.escape(host.about["knows"])}.</p>'


def _parse(prompt: str) -> tuple[Any, str]:
    with in_a_line():
        check_text(prompt, "prompt")
        return parts(prompt), summary(prompt)


def _draw(
    room: Room, prompt: str, seed: int | None, count: int, steps: int, scale: float, method: str, gate: bool
) -> Iterator[list[Any]]:
    """What the tab's outputs show while a request is worked at, and at the end."""
    check_text(prompt, "prompt")
    if seed is None:
        raise RequestError("no seed: give a number from 0 to 2^63 - 1")
    with room.scratch() as out:
        request = room.drawing(prompt, out, method=method, gate=gate, count=count, steps=steps,
                               guidance_scale=scale, seed=seed)  # fmt: skip
        forming: dict[str, dict[int, Any]] = {VANILLA: {}, arm_name(method): {}}
        for event in _worked(room, request):
            if isinstance(event, tuple):
                moment, picture = event
                if picture is not None:
                    forming[moment.arm][moment.seed] = picture
                now = f"{moment.arm}, seed {moment.seed}: step {moment.step} of {moment.steps}"
                yield [*_shown(forming, count), f'<p class="note">{now}</p>', gr.skip()]
                continue
            for image in event["images"]:
                forming[image["arm"]][image["seed"]] = image["path"]
            paths = [image["path"] for image in event["images"]] + [event["contact_sheet"]]
            yield [*_shown(forming, count), _said(event), gr.File(paths, visible=True)]


def _shown(forming: dict[str, dict[int, Any]], count: int) -> list[gr.Gallery]:
    columns = 1 if count == 1 else 2
    return [
        gr.Gallery([(picture, f"seed {seed}") for seed, picture in pictures.items()], columns=columns,
                   label=shown_name(arm))
        for arm, pictures in forming.items()
    ]  # fmt: skip


def _said(result: dict[str, Any]) -> str:
    seconds = sum(image["seconds"] for image in result["images"])
    lines = [
        f"{len(result['images'])} pictures in {seconds:.1f} s.",
        *(f"{note[:1].upper()}{note[1:]}." for note in result["notes"]),
    ]
    return "".join(f'<p class="note">{html.escape(line)}</p>' for line in lines)


def _worked(room: Room, request: Request) -> Iterator[Any]:
    """`run`'s moments, some with a picture, and at last its document with "notes": what it warned of.

    It runs in a thread, for a pipeline calls back and does not yield; when nobody asks for more, it ends at its next step.
    """
    events: SimpleQueue[Any] = SimpleQueue()
    left = Event()

    def watch(moment: Moment) -> None:
        if left.is_set():
            raise RequestError("nobody is waiting for this picture any more")
        if moment.step % max(1, moment.steps // _PREVIEWS) == 0 or moment.step == moment.steps:
            picture: Image | None = preview(moment.pipe, moment.latents)
            events.put((moment, picture))

    def work() -> None:
        try:
            with room.busy, overheard() as notes:
                events.put({**run(request, room.shelf, watch), "notes": notes})
        except Exception as error:  # raised where the events are read
            events.put(error)

    worker = Thread(target=work, daemon=True)
    worker.start()
    try:
        while not isinstance(event := events.get(), dict):
            if isinstance(event, Exception):
                raise event
            yield event
        yield event
    finally:
        left.set()
        worker.join()
