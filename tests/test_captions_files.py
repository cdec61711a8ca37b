"""Negated captions from every form of file, and the tables that training reads of them."""

import io
import json
import tarfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from negclip_core.clip import Clip
from negclip_core.errors import RequestError
from negclip_core.training import tables
from negclip_core.training.captions_file import NegatedCaption, read_captions
from negclip_core.training.shards import open_named
from negclip_core.training.tables import caption_tables
from negclip_core.training.text import tokenise

BARE: dict[str, Any] = {
    "file_name": "a.png",
    "caption": "A street.",
    "updated_caption": "A street with no cars.",
}
WHOLE: dict[str, Any] = {"file_name": "b.png", "caption": "a park", "negated": "a park without dogs", "affirmative": "a park",
         "asserted": "a park with dogs", "absent": ["dog"]}  # fmt: skip
UNTOUCHED: dict[str, Any] = {"file_name": "c.png", "caption": "a beach"}


def _as_coco(folder: Path) -> Path:
    images = [
        {"id": 1, "file_name": "a.png"},
        {"id": 2, "file_name": "b.png"},
        {"id": 3, "file_name": "c.png"},
    ]
    document = {"images": images, "annotations": [BARE | {"image_id": 1}, UNTOUCHED | {"image_id": 3}],
                "present": [WHOLE | {"image_id": 2}]}  # fmt: skip
    path = folder / "captions.json"
    path.write_text(json.dumps(document), "utf-8")
    return path


def _as_lines(folder: Path) -> Path:
    path = folder / "captions.jsonl"
    path.write_text("\n".join(json.dumps(row) for row in (BARE, UNTOUCHED, WHOLE)) + "\n\n", "utf-8")
    return path


def _as_parquet(folder: Path) -> Path:
    import pyarrow
    from pyarrow.parquet import write_table

    path = folder / "captions.parquet"
    columns: dict[str, Any] = {
        key: [row.get(key) for row in (BARE, UNTOUCHED, WHOLE)] for key in BARE | WHOLE
    }
    write_table(pyarrow.table(columns), path)
    return path


def _add(archive: tarfile.TarFile, name: str, content: bytes) -> None:
    about = tarfile.TarInfo(name)
    about.size = len(content)
    archive.addfile(about, io.BytesIO(content))


def _as_shards(folder: Path) -> Path:
    for number, rows in enumerate([[BARE, UNTOUCHED], [WHOLE]]):
        with tarfile.open(folder / f"{number:03d}.tar", "w") as archive:
            for row in rows:
                name = f"some/{str(row['file_name']).removesuffix('.png')}"
                _add(archive, f"{name}.png", name.encode())
                _add(archive, f"{name}.json", json.dumps({**row, "file_name": None}).encode())
            _add(archive, "alone.txt", b"")
    return folder


@pytest.mark.parametrize("write", [_as_coco, _as_lines, _as_parquet, _as_shards])
def test_all_forms_hold_the_same(write: Any, tmp_path: Path) -> None:
    bare, whole = read_captions(write(tmp_path))
    shards = write is _as_shards
    assert bare.file_name == ("000.tar/some/a.png" if shards else "a.png")
    assert (bare.caption, bare.negated, bare.holds) == ("A street.", "A street with no cars.", True)
    # Counterparts that the file lacks are derived from the text.
    assert "car" not in bare.affirmative and bare.asserted.endswith("with cars") and bare.absent == ("cars",)
    assert whole == NegatedCaption(
        "001.tar/some/b.png" if shards else "b.png", "a park", "a park without dogs", "a park", "a park with dogs",
        False, ("dog",),
    )  # fmt: skip


def test_captions_in_which_nothing_absent_is_found_are_passed_over_and_counted(
    clip: Clip, tmp_path: Path
) -> None:
    path = tmp_path / "captions.jsonl"
    nothing = {"file_name": "d.png", "caption": "a street", "updated_caption": "a street, wide and long"}
    named: list[dict[str, Any]] = [
        nothing | {"absent": ["cars"]},
        nothing | {"asserted": "a street with cars"},
    ]
    rows = [nothing, BARE, nothing | {"absent": [], "asserted": "", "affirmative": "a street"}, *named]
    path.write_text("\n".join(map(json.dumps, rows)), "utf-8")
    counts: Counter[str] = Counter()
    found = caption_tables(read_captions(path, counts), clip.tokenizer, tmp_path / "tables", counts=counts)
    assert (len(found), found.passed_over) == (3, 2)
    assert [each.negated for each in read_captions(path)] == [
        row["updated_caption"] for row in (BARE, *named)
    ]
    # The tables that are kept remember it.
    again = caption_tables(read_captions(path), clip.tokenizer, tmp_path / "tables", counts=Counter())
    assert (len(again), again.passed_over) == (3, 2)
    path.write_text(json.dumps(nothing), "utf-8")
    with pytest.raises(RequestError, match="none of its 1 negated captions names what is absent"):
        list(read_captions(path))


def test_a_shards_pictures_are_opened_from_within(tmp_path: Path) -> None:
    _as_shards(tmp_path)
    assert open_named(tmp_path, "000.tar/some/a.png").read() == b"some/a"
    with pytest.raises(FileNotFoundError, match=r"holds no some/z\.png"):
        open_named(tmp_path, "000.tar/some/z.png")


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("x.json", "{", "negclip synthesize"),
        ("x.json", "[]", "negclip synthesize"),
        ("x.json", '{"images": [], "annotations": []}', "negclip synthesize"),
        ("x.json", '{"annotations": 3}', "negclip synthesize"),
        ("x.json", '{"images": [3], "annotations": []}', "negclip synthesize"),
        ("x.jsonl", '{"file_name": "a"}\n{', "line 2"),
        ("x.jsonl", "[]", "line 1"),
        ("x.jsonl", '{"updated_caption": "a park with no dogs"}', "line 1: expected texts under 'file_name'"),
        ("x.jsonl", "", "no annotation holds 'updated_caption'"),
        ("x.parquet", "PAR1", "not a Parquet file"),
        ("x.tar", "no archive", "not a shard"),
        ("missing.jsonl", None, "cannot be read"),
        (".", None, "holds no .tar shard"),
    ],
)
def test_other_files_are_refused_in_one_line(
    name: str, content: str | None, says: str, tmp_path: Path
) -> None:
    if content is not None:
        (tmp_path / name).write_text(content, "utf-8")
    with pytest.raises(RequestError) as error:
        list(read_captions(tmp_path / name))
    assert says in str(error.value) and "\n" not in str(error.value)


def _caption(number: int, **changes: Any) -> NegatedCaption:
    words = " ".join(["street", "with", "a", "dog"][: number % 5])
    record = NegatedCaption(
        f"{number % 3}.png", words, f"{words} no cars", words, f"{words} cars", number % 2 == 0, ("car",)
    )
    return replace(record, **changes)


def test_tables_hold_what_the_records_do_across_chunks(
    clip: Clip, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tables, "_AT_ONCE", 4)
    records = [_caption(number) for number in range(9)]
    records[2] = replace(records[2], absent=("dog", "car", "dog"))
    records[5] = replace(records[5], absent=())
    records[7:] = [
        replace(record, file_name=name)
        for record, name in zip(records[7:], ("cafés/1.png", "\udcff.png"), strict=True)
    ]
    found = caption_tables(records, clip.tokenizer, tmp_path / "tables")
    assert len(found) == 9 and found.images == ("0.png", "1.png", "2.png", "cafés/1.png", "\udcff.png")
    assert found.image.tolist() == [0, 1, 2, 0, 1, 2, 0, 3, 4] and found.holds.tolist() == [
        r.holds for r in records
    ]
    rows = torch.tensor([8, 0, 5])
    for name in ("caption", "negated", "affirmative", "asserted"):
        texts = [getattr(records[row], name) for row in rows]
        assert torch.equal(getattr(found, name)[rows], tokenise(clip.tokenizer, texts))
    assert found.absent.names == ("car", "dog")
    assert found.absent.counts.tolist() == [1, 1, 2, 1, 1, 0, 1, 1, 1]
    assert found.absent[torch.tensor([2, 5, 0])].tolist() == [[True, True], [False, False], [True, False]]
    assert found.absent.denying(0).tolist() == [0, 1, 2, 3, 4, 6, 7, 8]
    assert found.absent.denying(1).tolist() == [2]


def test_tables_are_made_once_and_anew_after_an_interruption(clip: Clip, tmp_path: Path) -> None:
    def cut_off() -> Iterator[NegatedCaption]:
        for number in range(5000):
            yield _caption(number)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        caption_tables(cut_off(), clip.tokenizer, tmp_path / "tables")
    assert len(caption_tables([_caption(1)], clip.tokenizer, tmp_path / "tables")) == 1

    two = [_caption(1), _caption(2)]
    assert len(caption_tables(two, clip.tokenizer, tmp_path / "tables")) == 1
    assert len(caption_tables(two, clip.tokenizer, tmp_path / "tables", key="of another file")) == 2
    # Of a version that kept them in another form.
    done = tmp_path / "tables" / "tables.json"
    done.write_text(json.dumps({**json.loads(done.read_text("utf-8")), "form": 1}), "utf-8")
    assert len(caption_tables(two[:1], clip.tokenizer, tmp_path / "tables", key="of another file")) == 1
