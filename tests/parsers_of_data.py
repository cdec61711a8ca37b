"""Who reads data sets from outside: captions, corpora, synthesis's inputs, benchmarks (see `damage`)."""

import json
import pickle
import tarfile
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from damage import Parser, Target  # type: ignore[import-not-found]  # pytest puts tests/ on the path
from PIL import Image
from spoiling import (  # type: ignore[import-not-found]
    spoil_bytes,
    spoil_json,
    spoil_json_lines,
    spoil_text,
)

__all__ = ["DATA", "picture"]

_ROWS: list[dict[str, Any]] = [
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
            for suffix, content in (("json", json.dumps(row).encode()), ("png", picture("PNG"))):
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
    return [Target(path := folder / f"captions.{form}", lambda path=path: read(path), way)
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

    return [Target(path := folder / f"c.{form}", lambda path=path: read(path), way)
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
    (folder / "5.jpg").write_bytes(picture("JPEG"))
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
        "geneval": ((files["geneval"].name, spoil_json_lines),),
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
            if task(name).kind == "generation":
                texts = (item.prompt, item.family, item.place, item.affirmative, *item.labels)
                assert all(isinstance(text, str) for text in texts), texts
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


def picture(form: str, mode: str = "RGB", size: tuple[int, int] = (20, 20), **options: Any) -> bytes:
    image = Image.fromarray(np.random.default_rng(0).integers(0, 255, (*size, 3), np.uint8)).convert(mode)
    buffer = BytesIO()
    image.save(buffer, form, **options)
    return buffer.getvalue()


DATA: dict[str, Parser] = {parser.__name__: parser for parser in (captions, corpora, synthesis, benchmarks)}
