"""Language models on this machine: together they say what each says alone, and what cannot be used is told in one line."""

import asyncio
import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from negclip_core.captions.language_models import image_url, named_picture
from negclip_core.captions.local_model import LocalModel
from negclip_core.captions.prompts import Prompt
from negclip_core.errors import RequestError, UnfinishedWork
from pipelines.miniature import export
from tests.command_line import run
from tests.tiny_chat import make_llava_next, make_llm

CAPTION = "A man on a street."
SAYS = {
    "proposing:": '{"object": "tree"}',
    "writing:": '{"caption": "A man on a street with no tree."}',
    "looking:": '{"present": "no"}',
}


class AnyText(Prompt):
    """A prompt whose answer may be anything, for models that know no JSON."""

    def read(self, content: str) -> str:
        return content


@pytest.fixture(scope="module")
def llm(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_llm(tmp_path_factory.mktemp("models") / "llm")


@pytest.fixture(scope="module")
def vlm(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_llava_next(tmp_path_factory.mktemp("models") / "vlm")


def _prompt(longest: int) -> Prompt:
    return AnyText({"max_tokens": longest}, "a dog", "$text", "", ())


def _ask(model: Path, asked: Sequence[tuple[str, int, str]], concurrency: int) -> list[str]:
    """Answers to (text, tokens at most, picture), all asked at once."""

    async def ask() -> list[str]:
        async with LocalModel(str(model), bool(asked[0][2]), "cpu", concurrency) as local:
            return await asyncio.gather(
                *(local.ask(_prompt(n), {"text": text}, 0, picture) for text, n, picture in asked)
            )

    return asyncio.run(ask())


def test_a_batch_says_what_each_prompt_gets_alone(llm: Path) -> None:
    texts = ("car", "a man on a street with a dog", "no tree no dog", "park")
    asked = [(text, longest, "") for text in texts for longest in (3, 9)]
    together = _ask(llm, asked, 16)
    assert together == _ask(llm, asked, 1)
    assert len(set(together)) > len(texts)
    for short, long in zip(together[::2], together[1::2], strict=True):
        assert long.startswith(short) and len(short.split()) <= 3


def test_a_models_own_repetition_penalty_means_nothing(llm: Path, tmp_path: Path) -> None:
    plain = tmp_path / "plain"
    shutil.copytree(llm, plain)
    (plain / "generation_config.json").unlink()
    asked = [(text, 12, "") for text in ("car", "a man on a street with a dog", "park tree")]
    assert _ask(llm, asked, 16) == _ask(plain, asked, 16)


def test_pictures_of_several_sizes_go_together(vlm: Path) -> None:
    random = np.random.default_rng(0)
    sizes = ((40, 90), (90, 40), (64, 64), (64, 64))
    urls = [image_url(Image.fromarray(random.integers(0, 256, (*size, 3), np.uint8))) for size in sizes]
    asked = [(text, 6, url) for url, text in zip(urls, ("car", "a man on a park", "dog", "dog"), strict=True)]
    together = _ask(vlm, asked, 16)
    assert together == _ask(vlm, asked, 1)
    assert together[2] != together[3], "the model does not see its picture"


@pytest.mark.parametrize("template", ["plain", "refuses"])
def test_the_system_is_heard_where_the_template_has_no_place_for_it(template: str, tmp_path: Path) -> None:
    from negclip_core.captions.local_model import _Chat

    chat = _Chat(str(make_llm(tmp_path / "llm", template=template)), False, "cpu")
    text = chat._text(_prompt(3).messages({"text": "car"}), chat.takes_system)
    folded = "user: a dog\n\ncar " if template == "refuses" else "system: a dog user: car "
    assert text == f"<s>{folded}looking:"


def test_equal_questions_are_answered_once(llm: Path) -> None:
    async def ask() -> tuple[int, set[str]]:
        async with LocalModel(str(llm), False, "cpu", 4) as local:
            assert local._chat is not None
            generate, calls = local._chat.model.generate, []

            def counted(**given: Any) -> Any:
                calls.append(len(given["input_ids"]))
                return generate(**given)

            local._chat.model.generate = counted
            asks = [local.ask(_prompt(4), {"text": "car"}, seed) for seed in range(20)]
            said = {*await asyncio.gather(*asks), await local.ask(_prompt(4), {"text": "car"}, 99)}
        return sum(calls), said

    calls, said = asyncio.run(ask())
    assert calls == 1 and len(said) == 1


def test_a_model_that_fails_tells_everybody_who_waits(vlm: Path) -> None:
    async def ask() -> list[object]:
        async with LocalModel(str(vlm), True, "cpu", 4) as local:
            asks = [local.ask(_prompt(4), {"text": text}, 0, "data:,") for text in ("car", "dog", "car")]
            return list(await asyncio.gather(*asks, return_exceptions=True))

    found = asyncio.run(ask())
    assert [type(each) for each in found] == [UnfinishedWork] * 3
    assert "failed (UnidentifiedImageError" in str(found[0])


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("world")
    files = {name: Path(path) for name, path in export.run(folder, 12, 3, "train")["files"].items()}
    document = json.loads(files["captions"].read_text("utf-8"))
    for entry in document["annotations"]:
        entry["caption"] = CAPTION
    files["captions"].write_text(json.dumps(document), "utf-8")
    return files | {"images": folder / "images"}


def _arguments(world: dict[str, Path], out: Path, llm: Path, vlm: Path) -> list[str]:
    return ["synthesize", "--captions", str(world["captions"]), "--images", str(world["images"]), "--pipeline", "p1",
            "--llm", str(llm), "--vlm", str(vlm), "--out", str(out), "--device", "cpu", "--json", "--quiet"]  # fmt: skip


def test_local_models_fill_every_role(
    world: dict[str, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    llm, vlm = make_llm(tmp_path / "llm", SAYS), make_llava_next(tmp_path / "vlm", SAYS)
    out = tmp_path / "negated.json"
    capsys.readouterr()  # of making the models
    code, said, err = run(_arguments(world, out, llm, vlm), monkeypatch, capsys)
    assert (code, err) == (0, "")
    counts = json.loads(said)
    written = json.loads(out.read_text("utf-8"))["annotations"]
    document = json.loads(world["captions"].read_text("utf-8"))
    withheld = {image["id"] for image in document["images"] if "tree" in image.get("held_out", ())}
    may = [entry for entry in document["annotations"] if entry["image_id"] not in withheld]
    assert counts["written"] == len(written) == len(may) > 0
    assert counts["rejected"] == {"held out": counts["read"] - len(may)}
    assert {entry["updated_caption"] for entry in written} == {"A man on a street with no tree."}
    assert {tuple(entry["absent"]) for entry in written} == {("tree",)}

    # The journal goes on with the same models wherever they lie, and with no others.
    moved = tmp_path / "moved"
    llm.rename(moved)
    assert run(_arguments(world, out, moved, vlm), monkeypatch, capsys)[0] == 0
    other = make_llm(tmp_path / "other")
    code, _, err = run(_arguments(world, out, other, vlm), monkeypatch, capsys)
    assert code == 2 and "was begun with another llm" in err


def test_what_a_model_does_not_say_as_asked_is_counted(
    world: dict[str, Path], llm: Path, vlm: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    code, said, _ = run(_arguments(world, tmp_path / "negated.json", llm, vlm), monkeypatch, capsys)
    counts = json.loads(said)
    assert code == 0 and counts["written"] == 0
    assert counts["rejected"] == {"malformed answer": counts["read"]}


def _no_safetensors(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")


def _no_head(folder: Path) -> None:
    from safetensors.torch import load_file, save_file

    file = folder / "model.safetensors"
    save_file({k: v for k, v in load_file(file).items() if "lm_head" not in k}, file, {"format": "pt"})


def _no_template(folder: Path) -> None:
    (folder / "chat_template.jinja").unlink()


def _no_user(folder: Path) -> None:
    (folder / "chat_template.jinja").write_text("Hello", "utf-8")


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (shutil.rmtree, "no model called"),
        (lambda folder: (folder / "config.json").unlink(), "expected a transformers model"),
        (_no_safetensors, "expected weights as .safetensors"),
        (_no_head, "1 of its weights are missing, lm_head.weight first"),
        (_no_template, "has no chat template; name a model tuned for chat"),
        (_no_user, "its chat template leaves out what the user says"),
    ],
)
@pytest.mark.parametrize("role", ["llm", "vlm"])
def test_what_cannot_be_used_is_told_in_one_line(
    role: str, spoil: object, says: str, world: dict[str, Path], llm: Path, vlm: Path, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    models = {"llm": llm, "vlm": vlm}
    bad = tmp_path / "bad"
    shutil.copytree(models[role], bad)
    assert callable(spoil)
    spoil(bad)
    code, said, err = run(
        _arguments(world, tmp_path / "negated.json", **(models | {role: bad})), monkeypatch, capsys
    )
    assert (code, said, err.count("\n")) == (2, "", 1) and says in err
    assert not list(tmp_path.glob("negated.json*"))


def test_a_model_without_eyes_is_no_verifier(
    world: dict[str, Path], llm: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    code, _, err = run(_arguments(world, tmp_path / "negated.json", llm, llm), monkeypatch, capsys)
    assert code == 2 and err.count("\n") == 1 and "a vision-language model" in err


@pytest.mark.parametrize(
    ("name", "line"), [("a.png", "no such picture"), ("000.tar/a.png", "cannot be read")]
)
def test_a_picture_that_is_missing_or_in_a_damaged_shard_is_one_line(
    name: str, line: str, tmp_path: Path
) -> None:
    (tmp_path / "000.tar").write_bytes(b"no shard" * 200)
    with pytest.raises(RequestError, match=line):
        named_picture(tmp_path, name)
