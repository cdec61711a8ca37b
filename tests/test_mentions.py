"""Pictures that hold a thing or lack it, as captions tell: known where they deny it, believed where they only mention it."""

from pathlib import Path

import torch
from torch.nn.functional import normalize

from negclip_core.clip import Clip
from negclip_core.training.captions_file import NegatedCaption
from negclip_core.training.data import TrainingSet
from negclip_core.training.features import Features
from negclip_core.training.mentions import believed, mentioned
from negclip_core.training.tables import caption_tables

_EACH = 40  # pictures of a street and of a park; the second half of each has a car
_SILENT = 0.25  # share of the pictures with a car whose caption does not say so


def _holds_car(picture: int) -> bool:
    return picture % _EACH >= _EACH // 2


def _says_car(picture: int) -> bool:
    return _holds_car(picture) and picture % _EACH >= _EACH // 2 * (1 + _SILENT)


def _captions() -> list[NegatedCaption]:
    """Cars are denied, rightly or not, of every fourth street; of parks, which have cars too, only trees are."""
    found = []
    for picture in range(2 * _EACH):
        place = "a street" if picture < _EACH else "a park"
        caption = f"{place} with two cars" if _says_car(picture) else place
        thing, holds = (
            ("car", not _holds_car(picture)) if place == "a street" and picture % 4 == 0 else ("tree", True)
        )
        found.append(
            NegatedCaption(f"{picture}.png", caption, f"{place} with no {thing}", place, f"{place} with a {thing}",
                           holds, (thing,))
        )  # fmt: skip
    return found


def _set(
    clip: Clip, folder: Path, features: torch.Tensor, training: torch.Tensor | None = None
) -> TrainingSet:
    tables = caption_tables(_captions(), clip.tokenizer, folder / "captions")
    rows = {name: row for row, name in enumerate(tables.images)}
    return TrainingSet.make(tables, Features(features, rows, {}), clip.tokenizer, training=training)


def _telling() -> torch.Tensor:
    """Embeddings that tell a car and the place, and nothing by which a probe of eighty pictures could learn them by heart."""
    pictures = range(2 * _EACH)
    told = torch.tensor([[_holds_car(p) - 0.5, (p < _EACH) - 0.5] for p in pictures])
    return normalize(told, dim=1)


def test_what_captions_mention_tells_of_places_where_nothing_is_denied(clip: Clip, tmp_path: Path) -> None:
    data = _set(clip, tmp_path, _telling())
    car = data.absent.names.index("car")
    known = data.pictures_of(car)
    assert [len(pictures) for pictures in known] == [5, 5] and max(map(max, known)) < _EACH
    holding, lacking = (set(pictures.tolist()) for pictures in believed(data)[car])
    assert {p for p in range(2 * _EACH) if _says_car(p)} <= holding
    assert all(_holds_car(p) for p in holding) and set(known[0].tolist()) <= holding
    # And none that holds a car without a word.
    assert lacking == {p for p in range(2 * _EACH) if not _holds_car(p)}


def test_a_thing_that_captions_seldom_mention_is_not_believed_to_be_missing(
    clip: Clip, tmp_path: Path
) -> None:
    """Of cars that are far off one caption in three tells: enough to believe that streets which look so have one."""
    looks = ["none"] * 30 + ["near"] * 20 + ["far"] * 21
    told = [look == "near" or (look == "far" and picture % 3 == 0) for picture, look in enumerate(looks)]
    records = []
    for picture, look in enumerate(looks):
        thing = "car" if picture % 2 and not told[picture] else "tree"
        records.append(
            NegatedCaption(f"{picture}.png", "a street with cars" if told[picture] else "a street", f"a street with no {thing}",
                           "a street", f"a street with a {thing}", thing == "tree" or look == "none", (thing,))
        )  # fmt: skip
    tables = caption_tables(records, clip.tokenizer, tmp_path / "captions")
    rows = {name: row for row, name in enumerate(tables.images)}
    features = torch.stack([torch.eye(3)[["none", "near", "far"].index(look)] for look in looks])
    data = TrainingSet.make(tables, Features(features, rows, {}), clip.tokenizer)
    holding, lacking = believed(data)[data.absent.names.index("car")]
    assert lacking.tolist() == list(range(30))
    assert set(holding.tolist()) >= {picture for picture, said in enumerate(told) if said}


def test_nothing_is_believed_where_embeddings_do_not_tell(clip: Clip, tmp_path: Path) -> None:
    torch.manual_seed(0)
    data = _set(clip, tmp_path, normalize(torch.randn(2 * _EACH, 8), dim=1))
    car = data.absent.names.index("car")
    for found, known in zip(believed(data)[car], data.pictures_of(car), strict=True):
        assert torch.equal(found, known)


def test_captions_that_are_held_back_tell_nothing(clip: Clip, tmp_path: Path) -> None:
    data = _set(clip, tmp_path, _telling(), training=torch.arange(0, 2 * _EACH, 2))
    car = data.absent.names.index("car")
    assert mentioned(data, [car])[:, 0].nonzero()[:, 0].tolist() == [
        p for p in range(0, 80, 2) if _says_car(p)
    ]
    assert not any((pictures % 2).any() for pictures in believed(data)[car])


def test_a_narrower_word_mentions_the_thing(clip: Clip, tmp_path: Path) -> None:
    texts = ["a man by the lake", "women at the lake", "a lake with people", "a lake", "a hot dog"]
    things = ("person", "hat of man", "dog")
    records = [
        NegatedCaption(f"{number}.png", text, "no", "", "a thing", True, things)
        for number, text in enumerate(texts)
    ]
    tables = caption_tables(records, clip.tokenizer, tmp_path / "captions")
    rows = {name: row for row, name in enumerate(tables.images)}
    data = TrainingSet.make(tables, Features(torch.randn(5, 4), rows, {}), clip.tokenizer)
    found = mentioned(data, [0, 1])
    assert found[:, 0].tolist() == [True, True, True, False, False]
    assert not found[:, 1].any()
