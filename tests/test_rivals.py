"""Training-free rivals: each one's formula written out plainly, one text at a time, on tiny CLIPs of the real class."""

import ast
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from command_line import run  # type: ignore[import-not-found]  # pytest puts tests/ on the path
from torch.nn import functional as F

from eval.arms import parse_arms, suits
from eval.encoders import Encoder
from eval.rivals import Rival, rival_names
from eval.rivals.steering import Correction, direction
from negclip_core.clip import Clip
from negclip_core.errors import RequestError
from pipelines.miniature import export

ALL = ("deo", "difference", "projection", "steering")
DENY = {  # text -> what it denies, and the rest
    "a street with no cars": (["cars"], "a street"),
    "a park with no dogs and no trees": (["dogs", "trees"], "a park"),
    "there are no boats": (["boats"], ""),
}
PLAIN = ["a street with cars", "a man with a hat"]


def _one(clip: Clip, text: str) -> torch.Tensor:
    return clip.encode_text([text])[0]


def _rows(clip: Clip, rival: str, tuned: bool = False) -> np.ndarray:
    return Rival("arm", clip, rival, tuned).texts([*DENY, *PLAIN])


@pytest.mark.parametrize("rival", ALL)
def test_texts_that_deny_nothing_are_left_alone(rival: str, clip: Clip) -> None:
    found = _rows(clip, rival)
    own = Encoder("arm", clip).texts([*DENY, *PLAIN])
    assert (found[len(DENY) :] == own[len(DENY) :]).all()
    assert not np.isclose(found[: len(DENY)], own[: len(DENY)], atol=1e-4).all(1).any()
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, atol=1e-5)


@pytest.mark.parametrize(("tuned", "strength"), [(False, 1.9), (True, 0.3)])
def test_projection(clip: Clip, tuned: bool, strength: float) -> None:
    anchor = (_one(clip, "neutral") + _one(clip, "balanced")) / 2
    for row, (text, (denied, _)) in zip(_rows(clip, "projection", tuned), DENY.items(), strict=False):
        e, n = _one(clip, text), _one(clip, " and ".join(denied))
        expected = e - strength * ((e @ n) / (n @ n) * n - anchor)
        np.testing.assert_allclose(row, F.normalize(expected, dim=0), atol=1e-5)


def test_difference(clip: Clip) -> None:
    anchor = (_one(clip, "neutral") + _one(clip, "balanced")) / 2
    for row, (text, (denied, _)) in zip(_rows(clip, "difference"), DENY.items(), strict=False):
        expected = _one(clip, text) - _one(clip, " and ".join(denied)) + anchor
        np.testing.assert_allclose(row, F.normalize(expected, dim=0), atol=1e-5)


def test_deo(clip: Clip) -> None:
    """As its code has it: one query at a time."""
    for row, (text, (denied, rest)) in zip(_rows(clip, "deo"), DENY.items(), strict=False):
        original = _one(clip, text)[None]
        positives = [_one(clip, rest)] if rest else []
        negatives = torch.stack([_one(clip, thing) for thing in denied])
        updated = original.clone().requires_grad_(True)
        optimizer = torch.optim.Adam([updated], lr=0.001)
        for _ in range(20):
            optimizer.zero_grad()
            positive = (
                torch.norm(updated - torch.stack(positives), dim=1).mean() if positives else torch.tensor(0.0)
            )
            negative = torch.norm(updated - negatives, dim=1).mean()
            (positive + 0.2 * torch.norm(updated - original) - negative).backward()
            optimizer.step()
            updated.data = F.normalize(updated.data, dim=-1)
        np.testing.assert_allclose(row, updated.detach()[0], atol=1e-5)


def test_the_direction_of_steering_is_that_of_a_logistic_regression() -> None:
    rng = np.random.default_rng(0)
    plain, negated = rng.normal(0, 1, (500, 6)), rng.normal(0, 1, (500, 6))
    negated[:, 2] += 2
    found = direction(plain, negated)
    assert np.linalg.norm(found) == pytest.approx(1)
    assert found[2] > 0.95
    assert (negated @ found > 0).mean() > 0.8
    # Where the penalised likelihood is largest along it, its slope across it is nothing.
    rows, labels = np.concatenate([plain, negated]), np.repeat([0.0, 1.0], 500)

    def slope(size: float) -> np.ndarray:
        w = size * found
        gradient: np.ndarray = rows.T @ (1 / (1 + np.exp(-rows @ w)) - labels) + w
        return gradient

    low, high = 0.0, 20.0
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (low, middle) if slope(middle) @ found > 0 else (middle, high)
    assert np.abs(slope(low)).max() < 0.05


@torch.no_grad()
def test_steering_turns_the_end_token_at_every_block(clip: Clip) -> None:
    correction = Correction(Encoder("arm", clip), tuned=False)
    for row, text in zip(_rows(clip, "steering"), DENY, strict=False):
        ids = clip.tokenizer([text])
        end = int(ids.argmax())
        x = clip.model.token_embedding(ids) + clip.model.positional_embedding
        for block, towards in zip(clip.model.transformer.resblocks, correction.directions, strict=True):
            x = block(x, attn_mask=clip.model.attn_mask)
            x[0, end] = (1 - 0.13) * x[0, end] + 0.13 * x[0, end].norm() * towards
        expected = clip.model.ln_final(x)[0, end] @ clip.model.text_projection
        np.testing.assert_allclose(row, F.normalize(expected, dim=0), atol=1e-5)


def test_rivals_are_found_by_looking_and_say_where_they_come_from() -> None:
    assert rival_names() == ALL
    for name in ALL:
        text = (Path(__file__).parents[1] / "eval" / "rivals" / f"{name}.py").read_text("utf-8")
        assert "Source: " in (ast.get_docstring(ast.parse(text)) or "")


def test_a_rival_s_arm_stands_on_vanilla_or_on_the_encoder_before_it() -> None:
    arms = parse_arms("deo,negationclip-deo,mine-projection=x/y,mine=x/y")
    assert [(arm.name, arm.rival, arm.swaps) for arm in arms] == [
        ("deo", "deo", False), ("negationclip-deo", "deo", True), ("mine-projection", "projection", True),
        ("mine", None, True),
    ]  # fmt: skip
    for arm in arms[:3]:
        kinds = ("understanding", "generation", "segmentation")
        assert [kind for kind in kinds if suits(arm, kind)] == ["understanding"]
    for wrong in ("vanilla-deo", "both-deo", "undeo", "negationclip-no-gate-deo"):
        with pytest.raises(RequestError, match=f"no arm called '{wrong}'.*deo.*negationclip-deo"):
            parse_arms(wrong)
    with pytest.raises(RequestError, match="with a new name"):
        parse_arms("deo=x/y")


def test_the_command_line_runs_rivals(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    export.run(tmp_path / "data", 60, 0, "test", quiet=True)
    names = ["vanilla", "negationclip", "projection", "negationclip-deo"]
    arguments = ["eval", "negrefcocog,negbench-mcq", "--arms", ",".join(names), "--data", str(tmp_path / "data"),
                 "--limit", "30", "--out", str(tmp_path / "out"), "--json", "--quiet"]  # fmt: skip
    code, out, _ = run(arguments, monkeypatch, capsys)
    assert code == 0
    found = json.loads(out)["tasks"]
    assert list(found["negrefcocog"]["arms"]) == list(found["negbench-mcq"]["arms"]) == names
    assert "vanilla -> projection" in found["negrefcocog"]["paired"]
