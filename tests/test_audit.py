"""How much negation a corpus holds: the same counts from every form, by the parser's own word."""

import gzip
import json
import random
import re
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pytest
from command_line import run  # type: ignore[import-not-found]  # pytest puts tests/ on the path
from pyarrow.parquet import write_table

from negclip_core.captions import corpus
from negclip_core.errors import RequestError
from negclip_core.negation.cues import find_cues
from negclip_core.world.negation import negated_prompt
from pipelines import audit

CAPTIONS = [
    "a street with no cars and no people",
    "a street",
    "a hatless man",
    None,
    'a "no parking" sign',
    "a dog that isn ’ t red",
    "  ",
    "A park, without  dogs",
]
ROWS = [{"image_id": number, "caption": text} for number, text in enumerate(CAPTIONS)]


def _run(*paths: Path, column: str | None = None) -> dict[str, Any]:
    return audit.run(paths, column, None, quiet=True)


def _as_json(folder: Path) -> Path:
    path = folder / "captions.json"
    path.write_text(json.dumps({"images": [], "annotations": ROWS}), "utf-8")
    return path


def _as_list(folder: Path) -> Path:
    path = folder / "list.json"
    path.write_text(json.dumps(ROWS), "utf-8")
    return path


def _as_lines(folder: Path) -> Path:
    path = folder / "captions.jsonl"
    rows = [row | {"more": {"x": [row["image_id"]]}} for row in ROWS]
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows), "utf-8")
    return path


def _as_csv(folder: Path) -> Path:
    path = folder / "captions.csv"
    pl.DataFrame(ROWS).write_csv(path)
    return path


def _as_tsv(folder: Path) -> Path:
    path = folder / "captions.tsv"
    path.write_text("URL\tTEXT\n" + "".join(f"http\t{text or ''}\n" for text in CAPTIONS), "utf-8")
    return path


def _as_text(folder: Path) -> Path:
    path = folder / "captions.txt"
    path.write_bytes("\r\n".join(text or "" for text in CAPTIONS).encode() + b"\r\n")
    return path


def _as_packed_text(folder: Path) -> Path:
    path = folder / "captions.txt.gz"
    path.write_bytes(gzip.compress(_as_text(folder).read_bytes()))
    return path


def _as_parquet(folder: Path) -> Path:
    path = folder / "captions.parquet"
    pl.DataFrame(ROWS).write_parquet(path)
    return path


def _as_folder(folder: Path) -> Path:
    inner = folder / "parts" / "inner"
    inner.mkdir(parents=True)
    frame = pl.DataFrame(ROWS)
    frame[:3].write_parquet(folder / "parts" / "000.parquet")
    # A part of another writer, and one without rows.
    frame[3:].select(Caption=pl.col("caption").cast(pl.Binary)).write_parquet(inner / "001.parquet")
    frame[:0].write_parquet(inner / "002.parquet")
    (folder / "parts" / "000_stats.json").write_text("{}")
    return folder / "parts"


FORMS = [
    _as_json, _as_list, _as_lines, _as_csv, _as_tsv, _as_text, _as_packed_text, _as_parquet, _as_folder
]  # fmt: skip


@pytest.mark.parametrize("write", FORMS)
@pytest.mark.parametrize("rows", [3, 1000])
def test_every_form_gives_the_same_counts(
    write: Callable[[Path], Path], rows: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(corpus, "_ROWS", rows)
    result = _run(write(tmp_path))
    assert (result["captions"], result["blank"], result["with_negation"]) == (6, 2, 4)
    assert result["share"] == 4 / 6
    assert result["share_interval"]["low"] == pytest.approx(0.3000, abs=1e-4)
    assert result["share_interval"]["high"] == pytest.approx(0.9032, abs=1e-4)
    words = sum(len((text or "").split()) for text in CAPTIONS)
    assert (result["words"], result["negation_words"]) == (words, 5)
    assert result["word_share"] == 5 / words
    assert result["cues"] == {"no": 1, "less": 1, "n't": 1, "without": 1}
    assert result["examples"][:2] == [
        {"cue": "no", "caption": "a street with no cars and no people"},
        {"cue": "less", "caption": "a hatless man"},
    ]
    assert result["misalignment"] is None


def test_counts_are_the_parsers_over_several_files(tmp_path: Path) -> None:
    rng = np.random.default_rng(2)
    texts = [negated_prompt(rng, "train").prompt for _ in range(200)] + ["a street"] * 1800
    rng.shuffle(texts)
    (tmp_path / "a.txt").write_text("\n".join(texts[:900]), "utf-8")
    pl.DataFrame({"Alt": texts[900:]}).write_parquet(tmp_path / "b.parquet")
    pl.DataFrame({"Alt": ["nobody"]}).write_csv(tmp_path / "c.csv")
    with pytest.raises(RequestError, match=r"b\.parquet: no column .* --column; there are: Alt"):
        _run(tmp_path / "a.txt", tmp_path / "b.parquet")
    one, two = _run(tmp_path / "a.txt"), _run(tmp_path / "b.parquet", tmp_path / "c.csv", column="alt")
    found = [find_cues(text) for text in [*texts, "nobody"]]
    assert one["with_negation"] + two["with_negation"] == sum(map(bool, found)) > 180
    assert one["negation_words"] + two["negation_words"] == sum(map(len, found))
    assert (two["files"], two["columns"]) == (2, ["Alt"])
    first = next(text for text in texts if "without" in [text[slice(*c.span)] for c in find_cues(text)])
    shown = Counter(example["cue"] for example in one["examples"])
    assert shown.keys() == one["cues"].keys() and max(shown.values()) == 3
    assert next(e["caption"] for e in one["examples"] if e["cue"] == "without") == first


def test_long_captions_are_cut_around_their_cue(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text(f"{'before ' * 40}a street with no cars{' after' * 40} and no dogs")
    (example,) = _run(tmp_path / "a.txt")["examples"]
    assert re.fullmatch(r"….* with no cars .*…", example["caption"]) and len(example["caption"]) < 140


def test_other_bytes_than_utf8_are_replaced(tmp_path: Path) -> None:
    raw = b"a caf\xe9 with no cars"
    for name, content in {
        "a.txt": raw, "a.csv": b"caption\n" + raw, "a.tsv": b"caption\n" + raw,
        "a.jsonl": b'{"caption": "' + raw + b'"}\n', "a.json": b'[{"caption": "' + raw + b'"}]',
    }.items():  # fmt: skip
        (tmp_path / name).write_bytes(content)
    pl.DataFrame({"caption": [raw]}).write_parquet(tmp_path / "a.parquet")
    for path in tmp_path.iterdir():
        result = _run(path)
        assert result["examples"] == [{"cue": "no", "caption": "a caf\ufffd with no cars"}], path.name


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("missing.parquet", None, "No such file"),
        (".", None, "holds no .parquet file"),
        ("x.parquet", b"PAR1 and no more", "cannot be read"),
        ("x.parquet", b"", "the file is empty"),
        ("x.csv", b"", "the file is empty"),
        ("x.csv", b"caption,url\n", "no row holds a caption"),
        ("x.csv", b'caption,url\n"a street\n', "cannot be read"),
        ("x.tsv", b"a street\thttp\n", "--column; there are: a street, http"),
        ("x.txt", b"\n \n", "no row holds a caption"),
        ("x.json", b'{"images": []}', "neither COCO captions"),
        ("x.json", b"[3]", "row 1: an object is expected"),
        (
            "x.json",
            b"[" + b'{"caption": "a"},' * 100 + b"null]",
            "row 101: an object is expected, not NoneType",
        ),
        ("x.json", b"{", "cannot be read"),
        ("x.jsonl", b'{"caption": "a"}\n\n{"caption"\n', "line 3: "),
        ("x.jsonl", b'{"caption": "a"}\n' * 200 + b'{"caption"\n', "cannot be read"),
        ("x.jsonl", b'{"words": "a"}\n', "there are: words"),
        ("x.xyz", b"a street", "expected a folder of .parquet"),
        ("x.txt.gz", gzip.compress(b"", mtime=0), "no row holds a caption"),
        ("x.txt.gz", gzip.compress(b"a street", mtime=0)[:-9], "cannot be read"),
        ("x.json.gz", b"a street", "expected a folder of .parquet"),
    ],
)
def test_other_files_are_refused_in_one_line(
    name: str, content: bytes | None, says: str, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    if content is not None:
        (tmp_path / name).write_bytes(content)
    code, out, err = run(["audit", str(tmp_path / name), "--quiet"], monkeypatch, capsys)
    assert (code, out) == (2, "")
    assert says in err and err.startswith("negclip: ") and err.count("\n") == 1


def test_columns_that_are_no_text_are_refused(tmp_path: Path) -> None:
    pl.DataFrame({"caption": [["a street"]]}).write_parquet(tmp_path / "x.parquet")
    with pytest.raises(RequestError, match="'caption' holds List"):
        _run(tmp_path / "x.parquet")


def test_spoiled_parquet_is_refused_or_read(tmp_path: Path) -> None:
    whole = _as_parquet(tmp_path).read_bytes()
    rng, path = random.Random(0), tmp_path / "spoiled.parquet"
    spoiled = []
    for _ in range(60):
        content = bytearray(whole)
        for place in rng.sample(range(len(content)), 3):
            content[place] = rng.randrange(256)
        spoiled.append(content[: rng.choice([len(content), rng.randrange(1, len(content))])])
    for content in spoiled:
        path.write_bytes(content)
        try:
            assert _run(path)["captions"] >= 0
        except RequestError as error:
            assert "\n" not in str(error)


def test_parquet_text_that_is_no_utf_8_is_refused(tmp_path: Path) -> None:
    raw = pa.array([b"a street with no cars \xff", b"a street"])
    column = pa.Array.from_buffers(pa.string(), len(raw), raw.buffers())
    write_table(pa.table({"caption": column}), tmp_path / "x.parquet")
    with pytest.raises(RequestError, match=r"x\.parquet: cannot be read \(.*UTF8"):
        _run(tmp_path / "x.parquet")


def test_the_command_prints_its_contract(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = str(_as_parquet(tmp_path))
    code, out, err = run(["audit", path, "--json", "--quiet"], monkeypatch, capsys)
    document = json.loads(out)
    assert (code, err) == (0, "")
    contract = {"captions", "with_negation", "share", "words", "negation_words", "cues", "examples"}
    assert contract <= document.keys()
    code, out, err = run(["audit", path], monkeypatch, capsys)
    assert code == 0 and "captions" in err
    assert "6 captions, 4 with a negation: 66.7 % (95 % interval 30 to 90.3 %)" in out
    assert "column: caption" in out and "--instances" in out
    assert re.search(r"1 +16\.7 %  n't +a dog that isn ’ t red\n", out)


def test_without_polars_a_line_says_how_to_get_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "polars", None)
    with pytest.raises(RequestError, match=re.escape("pip install 'negclip[scale]'")):
        _run(tmp_path)
