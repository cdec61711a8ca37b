"""`negclip web`: serve the page."""

import os
import socket
import tempfile
from importlib.util import find_spec
from ipaddress import ip_address
from pathlib import Path
from threading import Event
from typing import Annotated

import typer

from negclip_core.errors import RequestError
from pipelines.console import clean_output, pick_device, warn
from pipelines.options import Device, Lora, Model, Quiet, TextEncoder

__all__ = ["register"]

_HERE = "127.0.0.1"


def register(app: typer.Typer) -> None:
    """Add the verb to the command line."""

    @app.command()
    def web(
        host: Annotated[str, typer.Option(help="The address to serve at; 0.0.0.0 is all of them.")] = _HERE,
        port: Annotated[int, typer.Option(help="The port to serve at.")] = 7860,
        model: Model = "miniature",
        lora: Lora = None,
        text_encoder: TextEncoder = None,
        segmenter: Annotated[
            str, typer.Option(help="A shipped name, a hub id or a folder: the CLIPSeg of the masks.")
        ] = "miniature",
        clip: Annotated[
            str,
            typer.Option(
                help="The CLIP of the similarities, beside --text-encoder or else its own NegationCLIP."
            ),
        ] = "miniature",
        device: Device = "auto",
        quiet: Quiet = False,
    ) -> None:
        """Serve a page to play on: pictures, masks and similarities, vanilla CLIP beside NegationCLIP."""
        _check(host, port)
        with tempfile.TemporaryDirectory(prefix="negclip-web-") as name:
            _keep_to_itself(Path(name))
            with clean_output():
                from pipelines.web.page import make_page, serve
                from pipelines.web.room import Room

                if not _only_here(host):
                    warn(f"whoever can reach {host} can use the page; it asks for no password", quiet)
                room = Room(model, lora, text_encoder, segmenter, clip, pick_device(device), Path(name))
                warn("loading the models", quiet)
                room.open()
                url = serve(make_page(room), host, port)
            print(url, flush=True)
            warn("Ctrl-C ends it", quiet)
            Event().wait()


def _check(host: str, port: int) -> None:
    """What can be refused before anything heavy is imported."""
    if find_spec("gradio") is None:
        raise RequestError("negclip web needs gradio: pip install negclip[ui]")
    if not 0 < port < 65536:
        raise RequestError(f"--port {port}: expected a number from 1 to 65535")
    try:
        family, _, _, _, place = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(place)
    except OSError as error:
        raise RequestError(
            f"--host {host} --port {port}: cannot be served at ({error.strerror or error}); choose another"
        ) from error


def _only_here(host: str) -> bool:
    """Whether nobody but this machine reaches an address: localhost, ::1, 127.0.0.1."""
    return all(ip_address(place[0]).is_loopback for *_, place in socket.getaddrinfo(host, None))


def _keep_to_itself(folder: Path) -> None:
    """Settings that Gradio reads when it is imported: no word to its makers, and no file outside `folder`."""
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
    os.environ["GRADIO_TEMP_DIR"] = str(folder / "files")
    os.environ["GRADIO_EXAMPLES_CACHE"] = str(folder / "files" / "examples")
