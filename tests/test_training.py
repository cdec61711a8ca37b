"""Fine-tuning: what is read, what is frozen, and that an interrupted run ends as if it never was."""

import json
import math
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
import torch

from negclip_core.clip import Clip, load_clip
from negclip_core.convert import write_checkpoint
from negclip_core.errors import RequestError, UnfinishedWork
from negclip_core.training.captions_file import read_captions
from negclip_core.training.data import TrainingSet, split_rows
from negclip_core.training.loop import train
from negclip_core.training.objectives import Situation, create_all, infonce
from negclip_core.training.recipe import Recipe, load_recipe, recipe_names
from negclip_core.training.run import Run
from negclip_core.training.states import States
from negclip_core.training.tables import caption_tables
from pipelines.train import run
from pipelines.train_inputs import load_base, read_inputs


@pytest.mark.parametrize("name", recipe_names())
def test_every_recipe_can_be_made(name: str) -> None:
    recipe = load_recipe(name)
    assert len(create_all(recipe.objectives)) == len(recipe.objectives)


def test_the_papers_recipe_is_the_papers() -> None:
    recipe = load_recipe("paper")
    assert (recipe.learning_rate, recipe.batch_size, recipe.epochs) == (1e-6, 512, 15)
    assert recipe.objectives == ({"name": "infonce"},)


def _written(folder: Path, **changes: Any) -> str:
    """A recipe in a file: the paper's with changes."""
    settings = asdict(load_recipe("paper"))
    (folder / "recipe.json").write_text(json.dumps(settings | changes), "utf-8")
    return str(folder / "recipe.json")


@pytest.mark.parametrize(("part", "said"), [("rows", "absent or all"), ("split", "image or caption")])
def test_a_mistyped_choice_is_refused_with_what_there_is(part: str, said: str, tmp_path: Path) -> None:
    with pytest.raises(RequestError, match=f"{part} 'abscent': expected {said}"):
        load_recipe(_written(tmp_path, **{part: "abscent"}))
    with pytest.raises(RequestError, match=f"recipe 'paper': {part} 'abscent': expected {said}"):
        load_recipe("paper", **{part: "abscent"})
    for value in said.split(" or "):
        assert getattr(load_recipe(_written(tmp_path, **{part: value})), part) == value


@pytest.mark.parametrize("every", [0, -1, 1.5, True, "2", None])
def test_an_objective_is_due_at_every_nth_step_from_the_first_on(every: Any, tmp_path: Path) -> None:
    objectives = [{"name": "infonce"}, {"name": "preserve", "every": every}]
    with pytest.raises(RequestError, match=f"every {every!r}: expected a whole number from 1"):
        load_recipe(_written(tmp_path, objectives=objectives))


@pytest.mark.parametrize(
    "objectives", [[], [{"name": "infonce", "every": 2}, {"name": "preserve", "every": 3}]]
)
def test_a_recipe_with_nothing_to_do_at_some_steps_is_refused(objectives: list[Any], tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="no objective is due at every step"):
        load_recipe(_written(tmp_path, objectives=objectives))


def test_split_by_image_shares_no_image_and_by_caption_is_the_public_one(
    clip: Clip, corpus: Path, tmp_path: Path
) -> None:
    captions = caption_tables(read_captions(corpus / "captions.json"), clip.tokenizer, tmp_path / "captions")
    train_rows, held = split_rows(captions, "image")
    assert not set(captions.image[train_rows].tolist()) & set(captions.image[held].tolist())
    assert len(train_rows) + len(held) == len(captions)
    import numpy as np

    order = np.arange(len(captions))
    np.random.RandomState(42).shuffle(order)
    assert sorted(order[: int(len(captions) * 0.2)]) == split_rows(captions, "caption")[1].tolist()


def _recipe(**changes: Any) -> Recipe:
    objectives = ({"name": "infonce"}, {"name": "preserve", "batch": 4})
    settings = {"objectives": objectives, "learning_rate": 1e-3, "batch_size": 4, "epochs": 3, "rows": "all"}
    return Recipe("test", **{**settings, **changes})


def test_only_the_text_side_moves_and_its_final_norm_does_not(
    clip: Clip, data: TrainingSet, tmp_path: Path
) -> None:
    before = {name: tensor.clone() for name, tensor in clip.model.state_dict().items()}
    rows = torch.arange(len(data.image))
    outcome = train(
        clip.model, data, (rows[:-6], rows[-6:]), _recipe(), checkpoint=tmp_path / "c", quiet=True
    )
    moved = {name for name, tensor in outcome.weights.items() if not torch.equal(tensor, before[name])}
    assert {"token_embedding.weight", "text_projection", "logit_scale"} <= moved
    assert not [name for name in moved if name.startswith(("visual.", "ln_final."))]


def test_an_objective_may_be_due_at_every_nth_step_only(
    clip: Clip, data: TrainingSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []

    def count(self: infonce.Objective, now: Situation) -> torch.Tensor:
        seen.append(now)
        return now.student.logit_scale * 0

    monkeypatch.setattr(infonce.Objective, "__call__", count)
    objectives = ({"name": "infonce", "every": 3}, {"name": "preserve", "batch": 4})
    rows = torch.arange(len(data.image))
    recipe = _recipe(objectives=objectives, epochs=1)
    train(clip.model, data, (rows[:-4], rows[-4:]), recipe, checkpoint=tmp_path / "c", quiet=True)
    steps = len(rows[:-4]) // recipe.batch_size
    assert len(seen) == len(range(0, steps, 3)) + 1  # and once in validation


def test_a_batch_that_concerns_no_objective_is_passed_over(clip: Clip, data: TrainingSet) -> None:
    begun = Run(clip.model, _recipe(objectives=({"name": "existence"},)), data, per_epoch=4)
    before = {name: parameter.detach().clone() for name, parameter in begun.parameters.items()}
    # None of these captions says only that something is there.
    assert begun.take_step(torch.arange(4)) == 0 and begun.step == 1
    assert all(torch.equal(parameter, before[name]) for name, parameter in begun.parameters.items())


def test_each_epoch_tells_how_often_the_true_text_wins(clip: Clip, data: TrainingSet, tmp_path: Path) -> None:
    rows = torch.arange(len(data.image))
    told: list[dict[str, Any]] = []
    train(clip.model, data, (rows[:-8], rows[-8:]), _recipe(epochs=2), checkpoint=tmp_path / "c", quiet=True,
          report=told.append)  # fmt: skip
    held = rows[-8:]
    assert (
        [entry["epoch"] for entry in told if "epoch" in entry] == [1, 2]
        and all(data.holds[held[:-1]])
        and not data.holds[held[-1]]
    )
    # The best epoch's weights are in the model now; the last epoch's are in the checkpoint.
    clip.model.load_state_dict(torch.load(tmp_path / "c", weights_only=True)["parameters"], strict=False)
    with torch.no_grad():
        negated, asserted = (
            clip.model.encode_text(t[held].long(), normalize=True) for t in (data.negated, data.asserted)
        )
    ahead = ((negated - asserted) * data.features[data.image[held]]).sum(1)
    right = torch.where(data.holds[held], ahead > 0, ahead < 0)
    assert told[-1]["negation_accuracy"] == pytest.approx(float(right.float().mean()))


def test_train_writes_a_clip_that_loads_and_records_what_made_it(
    clip_folder: Path, corpus: Path, tmp_path: Path
) -> None:
    result = run(corpus / "captions.json", corpus, str(clip_folder), tmp_path / "out", "tokens", quiet=True,
                 epochs=1, batch_size=8)  # fmt: skip
    assert result["pairs"] == 25
    assert load_clip(result["checkpoint"]).encode_text(["a street with no cars", "a park", ""]).shape == (
        3,
        32,
    )
    card = (tmp_path / "out" / "README.md").read_text("utf-8")
    assert load_clip(clip_folder).sha256 in card and "token_targets" in card


def test_a_text_tower_without_its_image_tower_is_refused_before_anything_is_read(
    clip: Clip, corpus: Path, tmp_path: Path
) -> None:
    write_checkpoint(clip.checkpoint, tmp_path / "clip_l.safetensors", "comfyui", {})
    with pytest.raises(RequestError, match=r"clip_l\.safetensors: is a text tower only"):
        run(
            corpus / "captions.json",
            corpus,
            str(tmp_path / "clip_l.safetensors"),
            tmp_path / "out",
            quiet=True,
        )
    assert not (tmp_path / "out").exists()


def test_a_name_of_a_clip_is_the_clip_that_evaluation_knows_as_vanilla() -> None:
    assert load_base("miniature", torch.device("cpu")).sha256 == load_clip("miniature/clip").sha256


def test_an_objective_that_cannot_be_made_is_refused_before_anything_is_read(
    corpus: Path, clip_folder: Path, tmp_path: Path
) -> None:
    recipe = _written(tmp_path, objectives=[{"name": "infonce", "weight": "much"}])
    with pytest.raises(RequestError, match="objective 'infonce': weight cannot be 'much'"):
        run(tmp_path / "none.json", corpus, str(clip_folder), tmp_path / "out", recipe, quiet=True)
    assert not (tmp_path / "out").exists()


def test_what_is_read_says_which_rows_are_trained_on(clip: Clip, corpus: Path, tmp_path: Path) -> None:
    read = read_inputs(corpus / "captions.json", corpus, clip, tmp_path, None, "image", 0.0, quiet=True)
    assert 0 < len(read.rows[1]) < len(read.rows[0])
    assert read.data.training.nonzero()[:, 0].tolist() == read.rows[0].tolist()


def test_the_rate_rises_and_falls_as_the_recipe_says(clip: Clip, data: TrainingSet) -> None:
    rows = torch.arange(4)
    begun = Run(clip.model, _recipe(warm_up=4, decay=True, epochs=2), data, per_epoch=4)
    rates = []
    while not begun.is_over:
        begun.take_step(rows)
        rates.append(begun.optimizers["optimizer"].param_groups[0]["lr"])
    # Of 1e-3: a quarter more each step until all of it, times half a cosine over eight steps.
    rise = [0.25, 0.5, 0.75, 1, 1, 1, 1, 1]
    fall = [math.cos(math.pi * step / 16) ** 2 for step in range(8)]
    assert rates == pytest.approx([1e-3 * a * b for a, b in zip(rise, fall, strict=True)])
    rising = Run(clip.model, _recipe(warm_up=2), data, per_epoch=4)
    assert [rising.rate(), (rising.take_step(rows), rising.rate())[1]] == [0.5, 1]
    assert Run(clip.model, _recipe(), data, per_epoch=4).rate() == 1


def test_muon_turns_the_matrices_of_the_blocks_and_nothing_else(clip: Clip, data: TrainingSet) -> None:
    begun = Run(clip.model, _recipe(learning_rate=1e-4, muon_rate=0.01, warm_up=2), data, per_epoch=4)
    before = {name: parameter.detach().clone() for name, parameter in begun.parameters.items()}
    begun.take_step(torch.arange(4))
    moved = {name: p.detach() - before[name] for name, p in begun.parameters.items()}
    matrices = [name for name in moved if "resblocks" in name and moved[name].ndim == 2]
    assert len(matrices) == 4 * len(clip.model.transformer.resblocks)
    for name in matrices:
        rows, columns = moved[name].shape
        # Half the rate in the first of two steps of rising; the iteration brings singular values to between .7 and
        # 1.2, all but the faintest of a gradient that four short captions give.
        turned = torch.linalg.svdvals(moved[name]) / (0.005 * max(1, rows / columns) ** 0.5)
        assert 0.6 < turned[0] < 1.25 and turned[1] > 0.6, name
    # AdamW's first step is half its rate, and what weight decay takes of the largest weights.
    assert all(moved[name].abs().max() <= 0.55e-4 for name in moved if name not in matrices)
    assert moved["token_embedding.weight"].abs().max() > 0.49e-4


def test_each_step_of_each_seed_has_noise_of_its_own(
    clip: Clip, data: TrainingSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn = []

    def draw(self: infonce.Objective, now: Situation) -> torch.Tensor:
        drawn.append(float(torch.rand(())))
        return now.student.logit_scale * 0

    monkeypatch.setattr(infonce.Objective, "__call__", draw)
    for seed in (0, 1, 2, 0):
        begun = Run(clip.model, _recipe(objectives=({"name": "infonce"},), seed=seed), data, per_epoch=4)
        for _ in range(3):
            begun.take_step(torch.arange(4))
    assert len(set(drawn[:9])) == 9 and drawn[9:] == drawn[:3]


def test_the_best_epoch_is_the_last_of_several_as_good(clip: Clip, data: TrainingSet) -> None:
    begun = Run(clip.model, _recipe(patience=2, epochs=9), data, per_epoch=4)
    assert (begun.total, begun.step, begun.seconds, begun.best_epoch, begun.is_over) == (36, 0, 0, 0, False)
    begun.losses = [2.0, 1.0, 1.0, 3.0]
    assert (begun.best_epoch, begun.is_over) == (3, False)
    begun.losses.append(1.5)
    assert (begun.best_epoch, begun.is_over) == (3, True)
    without = Run(clip.model, _recipe(epochs=9), data, per_epoch=4)
    without.losses = [1.0, 2.0, 3.0]
    over = []
    for step in (0, 35, 36):
        without.step = step
        over.append(without.is_over)
    assert over == [False, False, True]


@pytest.mark.parametrize("became", [math.nan, math.inf])
def test_a_loss_that_is_no_number_ends_a_run_before_the_weights_are_lost(
    clip: Clip, data: TrainingSet, monkeypatch: pytest.MonkeyPatch, became: float
) -> None:
    monkeypatch.setattr(infonce.Objective, "__call__", lambda self, now: now.student.logit_scale * became)
    begun = Run(clip.model, _recipe(), data, per_epoch=4)
    before = {name: parameter.detach().clone() for name, parameter in begun.parameters.items()}
    with pytest.raises(UnfinishedWork, match=rf"became {became} at step 0; lower --learning-rate"):
        begun.take_step(torch.arange(4))
    assert all(torch.equal(parameter, before[name]) for name, parameter in begun.parameters.items())


def test_a_state_comes_back_whole_and_damaged_ones_are_refused(
    clip: Clip, data: TrainingSet, tmp_path: Path
) -> None:
    begun, rows = Run(clip.model, _recipe(), data, per_epoch=4), torch.arange(4)
    begun.take_step(rows)
    begun.seconds, begun.losses = 2.5, [3.0]
    begun.save(States(tmp_path / "run.ckpt"))
    kept = torch.load(tmp_path / "run.ckpt", weights_only=True)
    begun.take_step(rows)
    begun.load(States(tmp_path / "run.ckpt"))
    assert (begun.step, begun.seconds, begun.losses) == (1, 2.5, [3.0])
    for name, parameter in begun.parameters.items():
        assert torch.equal(parameter, kept["parameters"][name]) and torch.equal(
            begun.best[name], kept["best"][name]
        )
    deep = "[" * 100_000
    name = next(iter(kept["parameters"]))
    damaged: list[dict[str, Any]] = [
        {"step": "x"}, {"step": None}, {"losses": 3}, {"losses": ["x"]}, {"best": {}}, {"best": None}, {"best": []},
        {"best": {**kept["best"], name: torch.zeros(3)}}, {"best": {**kept["best"], name: 3}},
        {"parameters": {}}, {"parameters": {**kept["parameters"], name: torch.zeros(3, 5)}}, {"optimizer": None},
        {"optimizer": {}}, {"optimizer": {**kept["optimizer"], "param_groups": []}},
        *({part: text} for part in ("recipe", "made_of") for text in (3, None, "no JSON", deep, "[1]")),
    ]  # fmt: skip
    for message, changes in (
        (
            r"other settings \(epochs: 4 there, 3 now\)",
            [{"recipe": json.dumps(json.loads(kept["recipe"]) | {"epochs": 4})}],
        ),
        (
            r"other settings \(training: 'decoder' there, 'text tower' now\)",
            [{"made_of": json.dumps({"training": "decoder"})}],
        ),
        ("is not a state of this run", damaged),
    ):
        for number, change in enumerate(changes):
            path = tmp_path / f"other{number}.ckpt"
            torch.save({**kept, **change}, path)
            with pytest.raises(RequestError, match=message):
                begun.load(States(path))
