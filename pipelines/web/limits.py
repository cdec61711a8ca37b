"""What the page takes and what it refuses, each in a line for a person."""

import html
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import Any

import gradio as gr

from negclip_core.errors import NegclipError, RequestError
from negclip_core.images import image_size, open_image

__all__ = ["CHARACTERS", "FILE_BYTES", "MOST_PICTURES", "MOST_STEPS", "MOST_TEXTS", "PIXELS", "WAITING", "check_text",
           "fetch_nothing", "in_a_line", "photograph", "picture_of"]  # fmt: skip

MOST_PICTURES, MOST_STEPS, MOST_TEXTS = 4, 100, 8
CHARACTERS = 1000  # of a prompt, an expression or a text
FILE_BYTES = 20 * 2**20
PIXELS = 25_000_000
WAITING = 32  # requests in the queue; more are told that it is full


def photograph() -> gr.Image:
    """Gradio's component for a picture, which hands over the uploaded file as it is: only `open_image` reads it."""
    component = gr.Image(
        label="Photo", sources=["upload", "clipboard"], type="filepath", height=260, buttons=[]
    )

    def path_of(payload: Any) -> str | None:
        return payload.path if payload else None

    # Gradio's own reads whatever Pillow can. Not a class of our own: Gradio writes stubs beside those.
    component.preprocess = path_of  # type: ignore[method-assign]
    return component


def picture_of(path: str | None) -> Path:
    """An uploaded picture's file. Raises RequestError where there is none, or it is too large or no picture."""
    if path is None:
        raise RequestError("no picture: upload one, or click on an example")
    # Read from memory under the name that it was uploaded by: messages say nothing of the server's folders.
    name, content = Path(path).name, Path(path).read_bytes()
    width, height = image_size(name, BytesIO(content))
    if width * height > PIXELS:
        raise RequestError(
            f"{name}: {width} x {height} pixels, the page takes {PIXELS // 10**6} million; make it smaller"
        )
    open_image(name, BytesIO(content))
    return Path(path)


def check_text(text: str, what: str) -> str:
    """The text. Raises RequestError where it is longer than anybody's prompt."""
    if len(text) > CHARACTERS:
        raise RequestError(f"the {what} has {len(text)} characters, the page takes {CHARACTERS}; shorten it")
    return text


@contextmanager
def in_a_line() -> Iterator[None]:
    """Within the block, what is wrong with a request becomes a message in the page, and so does a failure of our own."""
    try:
        yield
    except NegclipError as error:
        # Gradio shows messages as HTML, and they quote what people typed.
        raise _message(html.escape(str(error), quote=False)) from error
    except Exception as error:
        traceback.print_exc()
        raise _message(
            "something went wrong; the terminal that the page was started from says what"
        ) from error


def _message(text: str) -> gr.Error:
    return gr.Error(text, duration=None, title="This cannot be done", print_exception=False)


def fetch_nothing(page: gr.Blocks) -> None:
    """Let no component of a page fetch what a request names by an address: Gradio would, from any public host."""
    for block in page.blocks.values():
        if isinstance(block, gr.components.Component):
            block.async_move_resource_to_block_cache = _own_files_only(  # type: ignore[method-assign]
                block.async_move_resource_to_block_cache
            )


def _own_files_only(move: Any) -> Any:
    async def moved(name: Any) -> Any:
        if name is not None and "://" in str(name):
            raise _message("the page fetches nothing from elsewhere; upload the picture")
        return await move(name)

    return moved
