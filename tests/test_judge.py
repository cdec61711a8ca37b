"""The miniature's judge: what it is told of spoiled drawings, what it reads and writes, and how it is checked."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from eval.judges import load_judge
from eval.judges.miniature import LABELS, JudgeNetwork, MiniatureJudge, scene_labels, thing_labels
from negclip_core.errors import RequestError
from negclip_core.world.drawing import draw
from negclip_core.world.scenes import Scene, Thing, sample_scene
from pipelines.miniature.degrade import spoil
from pipelines.miniature.judge import _areas, _precision_recall, _targets, _thing_table, against_people, build

HATTED = Thing("person", "red", (0.3, 0.4, 0.25, 0.55), frozenset({"hat"}), "man")


def _judge(seed: int = 0) -> MiniatureJudge:
    torch.manual_seed(seed)
    return MiniatureJudge(JudgeNetwork(len(LABELS)), LABELS, dict.fromkeys(LABELS, 0.5))


def test_labels_say_what_is_in_a_scene() -> None:
    assert thing_labels(HATTED) == {"person", "man", "hat", "man with hat", "red person"}
    assert scene_labels(Scene("park", (HATTED, Thing("car", "blue", (0, 0.7, 0.4, 0.2))))) == {
        "park", "person", "man", "hat", "man with hat", "red person", "car", "blue car"
    }  # fmt: skip
    rng = np.random.default_rng(0)
    for _ in range(200):
        assert scene_labels(sample_scene(rng)) <= set(LABELS)


def test_the_network_is_small() -> None:
    assert sum(p.numel() for p in JudgeNetwork(len(LABELS)).parameters()) <= 700_000


def test_a_judge_comes_back_from_its_folder(tmp_path: Path) -> None:
    judge = _judge()
    judge.thresholds["car"] = 0.2
    judge.save(tmp_path)
    again = load_judge(str(tmp_path))
    assert isinstance(again, MiniatureJudge)
    images = np.random.default_rng(0).integers(0, 256, (3, 64, 64, 3), dtype=np.uint8)
    first, second = judge.presence(images), again.presence(images)
    assert again.labels == LABELS
    for label in LABELS:
        assert first[label].shape == (3,)
        assert second[label] == pytest.approx(first[label], abs=5e-3)  # half precision on the disk
    assert (again.decide(images)["car"] == (second["car"] >= 0.2)).all()
    asked = [("car", "tree"), (), ("street",)]
    verdicts = again.decide(images)
    assert again.answers(images, asked) == [
        {label: bool(verdicts[label][row]) for label in labels} for row, labels in enumerate(asked)
    ]


def test_no_pictures_give_no_verdicts() -> None:
    assert _judge().decide(np.zeros((0, 64, 64, 3), np.uint8))["car"].shape == (0,)


def test_what_is_no_judge_is_refused_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="not a judge") as error:
        load_judge(str(tmp_path))
    assert "\n" not in str(error.value)
    _judge().save(tmp_path)
    save_file({"other": torch.zeros(1)}, tmp_path / "model.safetensors")
    with pytest.raises(RequestError, match="not a judge"):
        load_judge(str(tmp_path))


def _spoiled_targets(after: torch.Tensor, ghost: float = 0.0) -> tuple[dict[str, float], dict[str, float]]:
    """Presence and weight of each label for a hatted man, `after` of whose 64 cells are still seen; then a dog."""
    things, places = _thing_table(
        [Scene("park", (HATTED,)), Scene("lake", (Thing("dog", "black", (0, 0.5, 0.3, 0.3)),))]
    )
    before = torch.zeros(2, things.shape[1], 8, 8)
    before[:, 0] = 1.0
    now = before.clone()
    now[0, 0] = after
    present, weight, _ = _targets(things, places, before, now, torch.tensor([0.0, ghost]))
    row = 1 if ghost else 0
    return dict(zip(LABELS, present[row].tolist(), strict=True)), dict(
        zip(LABELS, weight[row].tolist(), strict=True)
    )


def _seen(cells: int) -> torch.Tensor:
    return (torch.arange(64) < cells).float().view(8, 8)


def test_a_thing_that_is_covered_counts_as_much_as_it_is_seen() -> None:
    for cells, present, counts in ((64, 1, 1), (40, 1, 1), (20, 0, 0), (5, 0, 1), (0, 0, 1)):
        truth, weight = _spoiled_targets(_seen(cells))
        assert (truth["person"], weight["person"]) == (present, counts), cells
        assert (truth["park"], truth["dog"], weight["dog"]) == (1, 0, 1)


def test_of_somebody_half_covered_nobody_knows_whether_there_is_a_hat() -> None:
    truth, weight = _spoiled_targets(_seen(40))
    assert (truth["hat"], weight["hat"], weight["man with hat"]) == (0, 0, 0)
    assert (truth["man"], weight["man"]) == (1, 1)
    assert weight["glasses"] == 1


def test_a_ghost_of_the_neighbour_is_left_open_if_it_is_strong() -> None:
    truth, weight = _spoiled_targets(_seen(64), ghost=0.25)
    assert (truth["person"], weight["person"]) == (0, 0)
    assert (truth["dog"], weight["dog"]) == (1, 1)
    truth, weight = _spoiled_targets(_seen(64), ghost=0.1)
    assert (truth["person"], weight["person"]) == (0, 1)


def test_spoiling_moves_the_map_of_things_with_the_picture() -> None:
    """A white thing on black: wherever the map says it is, it is bright."""
    instances = torch.zeros(64, 64, 64, dtype=torch.uint8)
    instances[:, 20:44, 16:40] = 1
    images = (instances[..., None] * 255).expand(-1, -1, -1, 3).contiguous()
    torch.manual_seed(0)
    spoiled = spoil(images, instances)
    assert spoiled.pixels.shape == (64, 3, 64, 64)
    assert float(spoiled.pixels.min()) >= 0 and float(spoiled.pixels.max()) <= 1
    inside = spoiled.instances == 1
    grey = spoiled.pixels.mean(1)
    assert float(grey[inside].mean()) > float(grey[~inside].mean()) + 0.4
    assert not torch.equal(spoiled.instances, instances)
    assert float(_areas(spoiled.instances)[:, 0].sum()) > 0


def test_spoiling_is_fixed_by_the_seed() -> None:
    images = torch.from_numpy(
        np.stack([draw(sample_scene(np.random.default_rng(i))).image for i in range(4)])
    )
    instances = torch.zeros(4, 64, 64, dtype=torch.uint8)
    torch.manual_seed(3)
    first = spoil(images, instances)
    torch.manual_seed(3)
    assert torch.equal(first.pixels, spoil(images, instances).pixels)


def test_precision_and_recall() -> None:
    verdict, true = np.array([1, 1, 1, 0, 0], bool), np.array([1, 1, 0, 1, 0], bool)
    found = _precision_recall(verdict, true)
    assert (found["precision"], found["recall"], found["false_alarms"]) == (0.6667, 0.6667, 0.5)


def test_training_is_resumed_bit_for_bit_and_learns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from negclip_core.training import fit as loop
    from pipelines.miniature import judge

    store = tmp_path / "pictures"
    figures = build(
        tmp_path / "whole", steps=30, progress=False, store=store, batch=16, drawn=(400, 200, 200)
    )
    assert figures["clean"]["tree"]["n"] == 200
    # Trees are the first thing that it learns.
    assert figures["clean"]["tree"]["recall"] - figures["clean"]["tree"]["false_alarms"] > 0.3

    class Killed(Exception): ...

    whole_step = judge.spoil
    steps_left = [12]

    def dies(*arguments: torch.Tensor) -> object:
        steps_left[0] -= 1
        if not steps_left[0]:
            raise Killed
        return whole_step(*arguments)

    monkeypatch.setattr(loop, "_CHECKPOINT_SECONDS", 0.0)
    monkeypatch.setattr(judge, "spoil", dies)
    with pytest.raises(Killed):
        build(tmp_path / "cut", steps=30, progress=False, store=store, batch=16, drawn=(400, 200, 200))
    monkeypatch.setattr(judge, "spoil", whole_step)
    build(tmp_path / "cut", steps=30, progress=False, store=store, batch=16, drawn=(400, 200, 200))
    for name in ("model.safetensors", "config.json", "figures.json"):
        assert (tmp_path / "cut" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


def test_the_judge_against_people(tmp_path: Path) -> None:
    judge = _judge()
    for number in range(2):
        Image.new("RGB", (64, 64), (number * 200, 90, 90)).save(tmp_path / f"{number}.png")
    file = tmp_path / "labels.json"
    verdict = judge.decide(np.asarray(Image.open(tmp_path / "0.png"))[None])
    there = [label for label in ("car", "dog", "tree") if verdict[label][0]]
    gone = [label for label in ("car", "dog", "tree") if not verdict[label][0]]
    file.write_text(json.dumps([{"image": "0.png", "present": there, "absent": gone}]))
    found = against_people(file, judge)
    assert set(found["labels"]) == {"car", "dog", "tree"}
    assert found["all"]["n"] == 3
    assert found["all"]["false_alarms"] == 0
    assert found["all"]["recall"] == (1.0 if there else 0.0)
    file.write_text(json.dumps([{"image": "0.png", "present": ["dragon"], "absent": []}]))
    with pytest.raises(RequestError, match="does not know: dragon"):
        against_people(file, judge)
    file.write_text("{}")
    with pytest.raises(RequestError, match="expected a list of image, present, absent"):
        against_people(file, judge)
    file.write_text(json.dumps([{"image": "0.png", "present": [], "absent": [], "open": ["car"]}]))
    with pytest.raises(RequestError, match="nobody answered anything"):
        against_people(file, judge)


def test_a_picture_that_is_labelled_twice_counts_once(tmp_path: Path) -> None:
    for name in ("0.png", "again.png"):
        Image.new("RGB", (64, 64), (0, 90, 90)).save(tmp_path / name)
    file = tmp_path / "labels.json"
    twice = [{"image": name, "present": ["car"], "absent": ["dog"]} for name in ("0.png", "again.png")]
    file.write_text(json.dumps(twice))
    assert against_people(file, _judge())["all"]["n"] == 2
    file.write_text(json.dumps([{"image": "0.png", "present": ["car"], "absent": ["car"]}]))
    with pytest.raises(RequestError, match=r"0\.png has two answers to car"):
        against_people(file, _judge())
