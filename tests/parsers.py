"""Who reads bytes from outside, and good files for them (see `damage`)."""

import asyncio
import json
import pickle
import tarfile
from collections.abc import Callable
from dataclasses import asdict
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from damage import Parser, Target  # type: ignore[import-not-found]
from parsers_of_models import MODELS, tiny_clip  # type: ignore[import-not-found]
from PIL import Image
from spoiling import (  # type: ignore[import-not-found]
    spoil_bytes,
    spoil_json,
    spoil_json_lines,
    spoil_text,
)

__all__ = ["PARSERS"]

_ROWS = [
    {"file_name": "a.png", "caption": "A street.", "updated_caption": "A street with no cars."},
    {"file_name": "b.png", "caption": "a park", "negated": "a park without dogs", "affirmative": "a park",
     "asserted": "a park with dogs", "absent": ["dog"], "of": "man"},
    {"file_name": "c.png", "caption": "a beach"},
]  # fmt: skip


def _world(folder: Path) -> dict[str, Path]:
    """The drawn world's files, of a few pictures."""
    from pipelines.miniature import export

    return {name: Path(path) for name, path in export.run(folder, 8, 3, "test")["files"].items()}


def captions(folder: Path) -> list[Target]:
    """Negated captions to train on, in every form."""
    import pyarrow
    from pyarrow.parquet import write_table

    from negclip_core.training.captions_file import read_captions
    from negclip_core.training.shards import open_named

    images = [{"id": n, "file_name": row["file_name"]} for n, row in enumerate(_ROWS)]
    entries = [row | {"image_id": n} for n, row in enumerate(_ROWS)]
    coco = {"images": images, "annotations": [entries[0], entries[2]], "present": entries[1:2]}
    (folder / "captions.json").write_text(json.dumps(coco))
    (folder / "captions.jsonl").write_text("".join(json.dumps(row) + "\n" for row in _ROWS))
    names = {key: None for row in _ROWS for key in row}
    write_table(
        pyarrow.table({name: [row.get(name) for row in _ROWS] for name in names}),
        folder / "captions.parquet",
    )
    with tarfile.open(folder / "captions.tar", "w") as archive:
        for number, row in enumerate(_ROWS):
            for suffix, content in (("json", json.dumps(row).encode()), ("png", _picture("PNG"))):
                member = tarfile.TarInfo(f"{number}.{suffix}")
                member.size = len(content)
                archive.addfile(member, BytesIO(content))

    def read(path: Path) -> None:
        for caption in read_captions(path):
            texts = (caption.file_name, caption.caption, caption.negated, caption.affirmative,
                     caption.asserted, *caption.absent)  # fmt: skip
            assert all(isinstance(text, str) for text in texts), texts
            try:
                open_named(folder, caption.file_name).close()
            except (OSError, ValueError):  # what training counts as a bad image
                continue

    ways = {"json": spoil_json, "jsonl": spoil_json_lines, "parquet": spoil_bytes, "tar": spoil_bytes}
    return [Target(path := folder / f"captions.{form}", lambda path=path: read(path), way)  # type: ignore[misc]
            for form, way in ways.items()]  # fmt: skip


def corpora(folder: Path) -> list[Target]:
    """Captions of a corpus for the audit, in every form."""
    import pyarrow
    from pyarrow.parquet import write_table

    from pipelines.audit import run, table

    texts = [row["caption"] for row in _ROWS] + ["a street with no cars", "nobody is there"]
    (folder / "c.csv").write_text("id,caption\n" + "".join(f'{n},"{t}"\n' for n, t in enumerate(texts)))
    (folder / "c.tsv").write_text("id\tcaption\n" + "".join(f"{n}\t{t}\n" for n, t in enumerate(texts)))
    (folder / "c.txt").write_text("\n".join(texts))
    (folder / "c.jsonl").write_text("".join(json.dumps({"caption": text}) + "\n" for text in texts))
    (folder / "c.json").write_text(json.dumps({"annotations": [{"caption": text} for text in texts]}))
    write_table(pyarrow.table({"caption": texts}), folder / "c.parquet")
    ways = {"csv": spoil_text, "tsv": spoil_text, "txt": spoil_text, "jsonl": spoil_json_lines, "json": spoil_json,
            "parquet": spoil_bytes}  # fmt: skip

    def read(path: Path) -> None:
        found = run([path], None, None, True)
        assert found["with_negation"] <= found["captions"]
        table(found, False)

    return [Target(path := folder / f"c.{form}", lambda path=path: read(path), way)  # type: ignore[misc]
            for form, way in ways.items()]  # fmt: skip


def synthesis(folder: Path) -> list[Target]:
    """What captions are written from: COCO captions and instances, VQAv2."""
    from negclip_core.training.captions_file import read_captions
    from pipelines.synthesize import run

    files = _world(folder)
    vqa = [files["vqa_questions"], files["vqa_annotations"]]

    def read() -> None:
        out = folder / "out.json"
        found = run(files["captions"], files["instances"], vqa, "all", out, 0)
        assert found["written"] == 0 or list(read_captions(out))

    return [Target(path, read, spoil_json) for path in (files["captions"], files["instances"], *vqa)]


def benchmarks(folder: Path) -> list[Target]:
    """The public files of the tasks of understanding and segmentation."""
    files = _world(folder)
    plain = json.loads(files["refcocog"].read_text())
    (folder / "refcoco").mkdir()
    (folder / "refcoco" / "refs(unc).p").write_bytes(pickle.dumps(plain, protocol=2))
    (folder / "refcoco" / "instances.json").write_bytes(files["instances"].read_bytes())
    side = {"image_id": 5, "height": 20, "width": 20}
    (folder / "5.jpg").write_bytes(_picture("JPEG"))
    (folder / "image_data_split.json").write_text(json.dumps([side]))
    square = [[[2, 2], [12, 2], [12, 12], [2, 12]]]
    phrase = {"task_id": "5__1", "image_id": 5, "phrase": "no people", "Polygons": [square, square]}
    (folder / "refer_test.json").write_text(json.dumps([phrase]))
    read: dict[str, tuple[tuple[str, Any], ...]] = {
        "valse-existence": ((files["existence"].name, spoil_json),),
        "negbench-mcq": ((files["choices"].name, spoil_text),),
        "negbench-retrieval": ((files["negated_retrieval"].name, spoil_text),),
        "negrefcocog": ((files["negrefcocog"].name, spoil_json),),
        "retrieval": ((files["captions"].name, spoil_json),),
        "celeba": ((files["celeba"].name, spoil_text),),
        "refcoco": (("refcoco/refs(unc).p", spoil_bytes),),
        "refcocog": ((files["refcocog"].name, spoil_json), (files["instances"].name, spoil_json)),
        "grefcoco": ((files["grefcoco"].name, spoil_json),),
        "phrasecut": (("refer_test.json", spoil_json), ("image_data_split.json", spoil_json)),
        "t2i-negation": ((files["prompts"].name, spoil_json),),
    }
    return [Target(folder / name, _task_reader(task, folder), spoil)
            for task, targets in read.items() for name, spoil in targets]  # fmt: skip


def _task_reader(name: str, folder: Path) -> Callable[[], None]:
    from eval.data import cut_box
    from eval.options import Options
    from eval.refer_files import truth
    from eval.registry import load, task
    from eval.runner import check_ids
    from negclip_core.images import open_image

    def read() -> None:
        items = load(task(name)).items(folder, Options())
        check_ids(items, folder, name)
        for item in items:
            assert isinstance(item.id, str)
            if task(name).kind == "segmentation":
                assert truth(item).shape == item.size and isinstance(item.expression, str)
            if name == "t2i-negation":
                assert all(isinstance(text, str) for text in (item.prompt, item.family, *item.labels))
                continue
            assert item.image.resolve().is_relative_to(folder.resolve())
            for field in ("caption", "foil", "phrase"):
                assert isinstance(getattr(item, field, ""), str), field
            assert all(isinstance(text, str) for text in getattr(item, "captions", ()))
            if name == "negrefcocog":
                picture = open_image(item.image)
                for box in item.boxes:
                    assert cut_box(picture, box, folder / "negrefcocog.json").size

    return read


def _picture(form: str, mode: str = "RGB", size: tuple[int, int] = (20, 20), **options: Any) -> bytes:
    image = Image.fromarray(np.random.default_rng(0).integers(0, 255, (*size, 3), np.uint8)).convert(mode)
    buffer = BytesIO()
    image.save(buffer, form, **options)
    return buffer.getvalue()


def images(folder: Path) -> list[Target]:
    """Pictures of every form and mode: turned by EXIF, animated, CMYK, 16 bits, a palette with transparency."""
    from negclip_core.images import open_image

    turned = Image.Exif()
    turned[0x0112] = 6
    frames = [Image.new("RGB", (20, 20), (n * 40, 0, 0)) for n in range(4)]
    made = {
        "plain.png": _picture("PNG"), "palette.png": _picture("PNG", "P", transparency=3), "grey.png": _picture("PNG", "LA"),
        "one.png": _picture("PNG", "1"), "sixteen.png": _picture("PNG", "I;16"), "turned.jpg": _picture("JPEG", exif=turned),
        "cmyk.jpg": _picture("JPEG", "CMYK"), "progressive.jpg": _picture("JPEG", progressive=True),
        "plain.webp": _picture("WEBP"), "moving.webp": _picture("WEBP", save_all=True, append_images=frames),
        "moving.gif": _picture("GIF", save_all=True, append_images=frames), "palette.gif": _picture("GIF", "P", transparency=3),
        "plain.bmp": _picture("BMP"), "moving.png": _picture("PNG", save_all=True, append_images=frames),
    }  # fmt: skip

    def read(path: Path) -> None:
        image = open_image(path)
        assert image.mode == "RGB" and np.asarray(image).shape == (image.height, image.width, 3)

    for name, content in made.items():
        (folder / name).write_bytes(content)
    return [Target(folder / name, lambda name=name: read(folder / name)) for name in made]  # type: ignore[misc]


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

    return [Target(folder / name, lambda name=name: read(folder / name), way) for name, way in  # type: ignore[misc]
            (("body.json", spoil_json), ("answer.http", spoil_bytes), ("stream.sse", spoil_text))]  # fmt: skip


def journals(folder: Path) -> list[Target]:
    """Synthesis's journal (SQLite) and evaluation's records (JSON lines)."""
    from eval.records import Journal as Records
    from negclip_core.captions.journal import Journal
    from negclip_core.captions.synthesis import Outcome, Progress, Task

    path, settings = folder / "out.json.journal", {"seed": 0}
    task = Task("p1", 1, {"id": 1, "file_name": "a.png"}, "A street.")

    def use(begun: bool) -> None:
        journal = Journal(path, settings, paid=True, group=1)
        try:
            for number in range(4):
                progress = journal.progress(number)
                if not begun and number < 2:
                    entry = {
                        "image_id": 1,
                        "caption": "A street.",
                        "updated_caption": "A street with no cars.",
                    }
                    journal.finish(number, task, Outcome("absent", True, True, entry))
                elif progress is not None:
                    journal.keep(number, task, Progress())
            assert journal.counts()["read"] >= 0
            assert all(isinstance(json.loads(entry), dict) for entry in journal.entries("absent"))
            journal.images()
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

    (folder / "a.png").write_bytes(_picture("PNG"))
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
    **{parser.__name__: parser for parser in (captions, corpora, synthesis, benchmarks, images, endpoints, journals, labels,
                                              prompts, plans)},
}  # fmt: skip
