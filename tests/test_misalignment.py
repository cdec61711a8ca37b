"""Captions that their picture contradicts are told from those that are right, and only where that can be said."""

import json
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from negclip_core.captions.misalignment import Misalignment
from negclip_core.errors import RequestError
from pipelines import audit
from pipelines.miniature import export
from pipelines.synthesize import run as synthesize


def _run(path: Path, instances: Path, column: str | None = None) -> dict[str, Any]:
    return audit.run([path], column, instances, quiet=True)


def test_what_pictures_contradict_is_told_from_what_they_do_not(tmp_path: Path) -> None:
    made = export.run(tmp_path / "world", 60, 3, "train")["files"]
    files = {name: Path(path) for name, path in made.items()}
    out = tmp_path / "negated.json"
    synthesize(files["captions"], files["instances"], [], "p1", out, seed=0)
    document = json.loads(out.read_text("utf-8"))
    names = {image["id"]: image["file_name"] for image in document["images"]}
    true, false = tmp_path / "true.json", tmp_path / "false.parquet"
    true.write_text(json.dumps({"annotations": document["annotations"]}), "utf-8")
    rows = [{"file_name": names[e["image_id"]], "text": e["negated"]} for e in document["present"]]
    pl.DataFrame(rows).write_parquet(false)
    instances = files["instances"]
    right = _run(true, column="updated_caption", instances=instances)["misalignment"]
    wrong = _run(false, instances=instances)["misalignment"]
    assert right["n"] > 30 and right["share"] < 0.05 and right["low"] <= right["share"] <= right["high"]
    assert wrong["n"] > 15 and wrong["share"] > 0.95 and wrong["contradicted"] == wrong["share"] * wrong["n"]
    (plain := tmp_path / "plain.txt").write_text("a street with no cars")
    with pytest.raises(RequestError, match="no column image_id or file_name"):
        _run(plain, instances=instances)


@pytest.mark.parametrize(
    ("text", "denied"),
    [
        ("a street with no cars or people", {"car", "person"}),
        ("Cars are nowhere to be seen on the street", {"car"}),
        ("nobody is here", {"person"}),
        ("a carless street", {"car"}),
        ("a room with no TVs", {"tv"}),
        ("a room without any sofas", {"couch"}),
        ("a street with no parked cars", set()),
        ("a bench with no people sitting on it", set()),
        ("a man without a tie", set()),
        ("a woman in red and a man who isn't wearing a tie", set()),
        ("a street with no trees", set()),
    ],
)
def test_only_what_a_picture_as_a_whole_lacks_is_denied(text: str, denied: set[str]) -> None:
    names = ["Car", "person", "tie", "tv", "couch"]
    categories = [{"id": number, "name": name} for number, name in enumerate(names)]
    judge = Misalignment({"categories": categories, "images": [], "annotations": []})
    assert judge.denied(text) == denied


def test_captions_of_pictures_that_the_instances_do_not_name_are_told(tmp_path: Path) -> None:
    images = [{"id": 139, "file_name": "a.jpg"}, {"id": 140, "file_name": ""}]
    document = {"images": images, "categories": [{"id": 1, "name": "car"}], "annotations": []}
    (instances := tmp_path / "instances.json").write_text(json.dumps(document))

    def told(**image: list[Any]) -> tuple[dict[str, Any], str]:
        captions = ["a street with no cars", "a park with no cars", "a street with no trees"]
        pl.DataFrame({"caption": captions, **image}).write_parquet(tmp_path / "captions.parquet")
        result = _run(tmp_path / "captions.parquet", instances=instances)
        return result, "\n".join(audit.table(result, True))

    # As pandas writes whole numbers among which one is missing; and as a folder above the pictures names them.
    floats: dict[str, list[Any]] = {"image_id": [139.0, None, 139.0]}
    for image in (floats, {"file_name": ["train/a.jpg", None, "a.jpg"]}):
        result, lines = told(**image)
        assert result["misalignment"] is None and result["image_not_in_instances"] == 2
        assert "2 negated captions not checked" in lines and "no negated caption denies" not in lines
    result, lines = told(image_id=[139, None, 139])
    assert result["misalignment"]["n"] == result["image_not_in_instances"] == 1
    assert "1 negated captions checked" in lines and "1 negated captions not checked" in lines
    result, lines = told(file_name=["a.jpg", "a.jpg", "a.jpg"])
    assert result["misalignment"]["n"] == 2 and "not checked" not in lines


@pytest.mark.parametrize("content", ["{}", "[]", "{", '{"categories": [3], "images": [], "annotations": []}'])
def test_other_instances_are_refused_in_one_line(content: str, tmp_path: Path) -> None:
    (tmp_path / "instances.json").write_text(content)
    pl.DataFrame({"caption": ["a street"], "image_id": [1]}).write_parquet(tmp_path / "captions.parquet")
    with pytest.raises(RequestError, match=r"instances\.json: ") as error:
        _run(tmp_path / "captions.parquet", instances=tmp_path / "instances.json")
    assert "\n" not in str(error.value)
