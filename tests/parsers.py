"""Who reads bytes from outside, and good files for them (see `damage`)."""

import asyncio
import json
from dataclasses import asdict
from pathlib import Path

import numpy as np
from damage import Parser, Target  # type: ignore[import-not-found]
from parsers_of_data import DATA, picture  # type: ignore[import-not-found]
from parsers_of_models import MODELS, tiny_clip  # type: ignore[import-not-found]
from PIL import Image
from spoiling import (  # type: ignore[import-not-found]
    spoil_bytes,
    spoil_json,
    spoil_json_lines,
    spoil_text,
)

__all__ = ["PARSERS"]


def images(folder: Path) -> list[Target]:
    """Pictures of every form and mode: turned by EXIF, animated, CMYK, 16 bits, a palette with transparency."""
    from negclip_core.images import open_image

    turned = Image.Exif()
    turned[0x0112] = 6
    frames = [Image.new("RGB", (20, 20), (n * 40, 0, 0)) for n in range(4)]
    made = {
        "plain.png": picture("PNG"), "palette.png": picture("PNG", "P", transparency=3), "grey.png": picture("PNG", "LA"),
        "one.png": picture("PNG", "1"), "sixteen.png": picture("PNG", "I;16"), "turned.jpg": picture("JPEG", exif=turned),
        "cmyk.jpg": picture("JPEG", "CMYK"), "progressive.jpg": picture("JPEG", progressive=True),
        "plain.webp": picture("WEBP"), "moving.webp": picture("WEBP", save_all=True, append_images=frames),
        "moving.gif": picture("GIF", save_all=True, append_images=frames), "palette.gif": picture("GIF", "P", transparency=3),
        "plain.bmp": picture("BMP"), "moving.png": picture("PNG", save_all=True, append_images=frames),
    }  # fmt: skip

    def read(path: Path) -> None:
        image = open_image(path)
        assert image.mode == "RGB" and np.asarray(image).shape == (image.height, image.width, 3)

    for name, content in made.items():
        (folder / name).write_bytes(content)
    return [Target(folder / name, lambda name=name: read(folder / name)) for name in made]


def endpoints(folder: Path) -> list[Target]:
    """Whole answers of an HTTP server, and of a model behind it."""
    from negclip_core.captions.endpoint import Endpoint
    from negclip_core.captions.prompts import load_prompt

    said = {"choices": [{"index": 0, "message": {"role": "assistant", "content": '{"object": "car"}'}, "finish_reason": "stop"}]}  # fmt: skip
    body = json.dumps(said).encode()
    head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
    (folder / "body.json").write_bytes(body)
    (folder / "answer.http").write_bytes(head % len(body) + body)
    (folder / "stream.sse").write_bytes(b"data: " + body + b"\n\ndata: [DONE]\n\n")

    async def ask(answer: bytes) -> None:
        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(answer)
            writer.close()

        async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
            port = server.sockets[0].getsockname()[1]
            async with Endpoint(f"http://127.0.0.1:{port}/v1#m", 1, tries=1, timeout_s=5) as endpoint:
                text = await endpoint.ask(load_prompt("propose"), {"caption": "a", "tried": "b"}, 0)
                assert text and len(text.splitlines()) == 1

    def read(path: Path) -> None:
        content = path.read_bytes()
        asyncio.run(ask(content if path.suffix == ".http" else head % len(content) + content))

    return [Target(folder / name, lambda name=name: read(folder / name), way) for name, way in
            (("body.json", spoil_json), ("answer.http", spoil_bytes), ("stream.sse", spoil_text))]  # fmt: skip


def journals(folder: Path) -> list[Target]:
    """Synthesis's journal (SQLite) and evaluation's records (JSON lines)."""
    from eval.records import Journal as Records
    from negclip_core.captions.journal import Journal
    from negclip_core.captions.synthesis import Outcome, Task

    path, settings = folder / "out.json.journal", {"seed": 0}
    task = Task("p1", 1, {"id": 1, "file_name": "a.png"}, "A street.")

    def use(begun: bool) -> None:
        journal = Journal(path, settings, paid=True, group=1)
        try:
            for number in range(4):
                said = journal.said(number)
                if not begun and number < 2:
                    entry = {
                        "image_id": 1,
                        "caption": "A street.",
                        "updated_caption": "A street with no cars.",
                    }
                    journal.finish(number, task, Outcome("absent", True, True, entry))
                elif not journal.ended(number) and said is not None:
                    said.keep("verify 0", "vlm", 0, "false")
                    assert json.loads(said.get("propose", "", 0) or "null") is None
            assert journal.counts()["read"] >= 0
            assert all(isinstance(json.loads(entry), dict) for entry in journal.entries("absent"))
            journal.images()
            journal.verified()
        finally:
            journal.close()

    use(False)
    records = Records(folder, "vanilla", {"seed": 0})
    records.append([{"id": str(n), "correct": True, "item": "0"} for n in range(3)])
    beside = (f"{path.name}-wal", f"{path.name}-shm", f"{path.name}-journal")
    return [
        Target(path, lambda: use(True), kept=beside),
        Target(records.path, lambda: Records(folder, "vanilla", {"seed": 0}), spoil_json_lines),
    ]


def labels(folder: Path) -> list[Target]:
    """What people said of pictures."""
    from eval.judges.labels import LabelFile

    (folder / "a.png").write_bytes(picture("PNG"))
    path = folder / "labels.json"
    path.write_text(json.dumps([{"image": "a.png", "present": ["car"], "absent": ["dog"], "open": ["cat"]}]))
    return [Target(path, lambda: LabelFile.read(path), spoil_json)]


def prompts(folder: Path) -> list[Target]:
    """Prompts: parsed, gated, split into tokens, and made into a file's name."""
    from negclip_core.clip import load_clip
    from negclip_core.language import has_negation, parse

    tokenizer = load_clip(tiny_clip(folder / "clip")).tokenizer
    path = folder / "prompt.txt"
    path.write_text("A street with no cars, but a dog that isn't on a leash; nobody is car-free.\n" * 3)

    def read() -> None:
        # As a terminal's bytes come: what is no UTF-8 becomes surrogates.
        text = path.read_bytes().decode("utf-8", "surrogateescape")
        found = parse(text)
        assert bool(found.negations) == has_negation(text)
        for each in found.negations:
            assert text[slice(*each.cue_span)] == each.cue and text[slice(*each.scope_span)] == each.scope
        if found.negations and text.isprintable():
            ids = tokenizer([text])
            assert ids.shape == (1, 77)

    return [Target(path, read, spoil_text)]


def plans(folder: Path) -> list[Target]:
    """A build's plan and a training's recipe."""
    from negclip_core.training.recipe import load_recipe
    from pipelines.miniature.build import Plan, run

    plan, recipe = folder / "plan.json", folder / "recipe.json"
    plan.write_text(json.dumps(asdict(Plan())))
    (folder / "judge.done").write_text("")
    recipe.write_text(json.dumps({"about": "a test", "objectives": [{"name": "infonce"}], "learning_rate": 1e-3, "batch_size": 4,
                                  "epochs": 1, "frozen": ["visual."]}))  # fmt: skip

    def read() -> None:
        found = load_recipe(str(recipe))
        assert (
            isinstance(found.epochs, int) and isinstance(found.batch_size, int) and found.learning_rate >= 0
        )
        assert all(isinstance(name, str) for name in found.frozen)

    return [
        Target(plan, lambda: run(folder, ["judge"], Plan()), spoil_json),
        Target(recipe, read, spoil_json),
    ]


PARSERS: dict[str, Parser] = {
    **MODELS,
    **DATA,
    **{parser.__name__: parser for parser in (images, endpoints, journals, labels,
                                              prompts, plans)},
}  # fmt: skip
