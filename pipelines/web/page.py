"""The page: its three tabs, one queue for them, and how it is served."""

from importlib.resources import files
from typing import Any

import gradio as gr
from starlette.middleware import Middleware
from starlette.responses import PlainTextResponse

from pipelines.web.images import images_tab
from pipelines.web.limits import FILE_BYTES, WAITING, fetch_nothing
from pipelines.web.masks import masks_tab
from pipelines.web.room import Room
from pipelines.web.similarity import similarity_tab

__all__ = ["make_page", "serve"]

_TITLE = "negclip: CLIP that understands “no”"
_HEAD = (
    "<h1>negclip</h1><p>CLIP reads past a “no”; NegationCLIP obeys it. Same prompt, same seed: only the text encoder "
    "differs.</p>"
)
_KEPT, _LOOKED = 1800, 300  # seconds that files are kept, and between two looks for older ones


def make_page(room: Room) -> gr.Blocks:
    """The page for an open room."""
    # One group of events, of which one runs at a time: all of them use the same models.
    queued = {"concurrency_id": "models", "concurrency_limit": 1}
    with gr.Blocks(title=_TITLE, analytics_enabled=False, delete_cache=(_LOOKED, _KEPT)) as page:
        gr.HTML(_HEAD, elem_classes="head", padding=False)
        for name, tab in (("Images", images_tab), ("Masks", masks_tab), ("Similarity", similarity_tab)):
            with gr.Tab(name):
                tab(room, **queued)
    fetch_nothing(page)
    # Not open besides the queue, which would let two requests use the models at once.
    page.queue(max_size=WAITING, default_concurrency_limit=1, api_open=False)
    return page


def serve(page: gr.Blocks, host: str, port: int) -> str:
    """Serve the page as long as the process lives; returns its address when it can be reached there."""
    page.launch(
        server_name=host, server_port=port, share=False, ssr_mode=False, pwa=False, mcp_server=False, quiet=True,
        inbrowser=False, prevent_thread_lock=True, show_error=False, allowed_paths=[], max_file_size=FILE_BYTES,
        enable_monitoring=False, run_history=False, footer_links=[], state_session_capacity=1000,
        theme=gr.themes.Default(primary_hue="rose", font=["system-ui", "sans-serif"],
                                font_mono=["ui-monospace", "monospace"]),
        css=files(__package__).joinpath("page.css").read_text("utf-8"),
        app_kwargs={"middleware": [Middleware(_OwnFilesOnly)]},
    )  # fmt: skip
    return str(page.local_url).rstrip("/")


class _OwnFilesOnly:
    """Refuses the addresses under which Gradio passes on what other hosts serve."""

    def __init__(self, app: Any) -> None:
        self.app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        path = scope.get("path", "")
        foreign = "/proxy=" in path or ("/file=" in path and ":/" in path.partition("/file=")[2])
        await (PlainTextResponse("not served here", 403) if foreign else self.app)(scope, receive, send)
