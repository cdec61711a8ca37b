"""What verifiers say together, a detector among them, and CLIP's second look at what was written."""

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import numpy as np
import pytest
from PIL import Image
from tiny_judges import make_blip, make_grounding_dino, make_owl  # type: ignore[import-not-found]

from negclip_core.captions.annotated import Annotations
from negclip_core.captions.detecting import DetectorVerifier
from negclip_core.captions.steps import synthesize
from negclip_core.captions.synthesis import Claim, Outcome, Roles, Task
from negclip_core.captions.writing import PhrasingWriter
from negclip_core.clip import Clip, load_clip
from negclip_core.errors import RequestError
from negclip_core.images import open_image
from pipelines.miniature import export
from pipelines.synthesize import run

ROOT = Path(__file__).parents[1]
THINGS = ("dog", "cat", "car")


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("world")
    files = {name: Path(path) for name, path in export.run(folder, 16, 3, "train")["files"].items()}
    return files | {"images": folder / "images"}


class Seer:
    """Says of each thing what it is told to, and notes that it was asked."""

    def __init__(self, **says: bool | None) -> None:
        self.says, self.asked = says, list[str]()

    def present(self, image: object, claim: Claim, rng: object) -> bool | None:
        self.asked.append(claim.thing)
        return self.says[claim.thing]


class InTurn:
    """Proposes one thing after the other."""

    def propose(
        self, image: object, caption: str, rng: object, tried: tuple[Claim, ...] = ()
    ) -> tuple[Claim, ...]:
        return tuple(Claim(thing) for thing in THINGS[len(tried) : len(tried) + 1])


class Frugal(PhrasingWriter):
    """Writes of nothing that is present."""

    refutes = False


def _outcome(writer: type[PhrasingWriter], proposals: int, **verifiers: Seer) -> Outcome:
    document: dict[str, Any] = {"images": [], "annotations": []}
    annotations = Annotations(document | {"categories": [{"id": t, "name": t} for t in THINGS]})
    roles = Roles({"p1": InTurn()}, verifiers, writer(annotations), proposals)
    return asyncio.run(synthesize(Task("p1", 1, {"id": 1}, "A street."), roles, seed=0))


def test_a_thing_is_absent_only_where_all_say_so() -> None:
    first, second = Seer(dog=False, cat=False), Seer(dog=True, cat=False)
    found = _outcome(PhrasingWriter, 2, first=first, second=second)
    assert found.state == "absent" and found.entry is not None and found.entry["absent"] == ["cat"]
    assert first.asked == second.asked == ["dog", "cat"]
    assert _outcome(PhrasingWriter, 1, first=first, second=second).reason == "verifiers disagree"
    assert _outcome(PhrasingWriter, 1, a=Seer(dog=True), b=Seer(dog=False)).reason == "verifiers disagree"
    assert _outcome(PhrasingWriter, 1, a=Seer(dog=False), b=Seer(dog=None)).reason == "cannot be verified"
    assert _outcome(PhrasingWriter, 1, a=Seer(dog=True), b=Seer(dog=True)).state == "present"


def test_nobody_is_asked_what_does_not_matter_any_more() -> None:
    for writer, said in ((Frugal, True), (Frugal, None), (PhrasingWriter, None)):
        second = Seer(dog=False)
        assert _outcome(writer, 1, first=Seer(dog=said), second=second).state == "rejected"
        assert second.asked == []


def _stats(address: str) -> dict[str, Any]:
    with urlopen(f"{address}/stats") as answer:
        found: dict[str, Any] = json.load(answer)
    return found


def test_another_verifier_does_not_ask_the_first_again(
    serve: Callable[..., str], world: dict[str, Path], tmp_path: Path
) -> None:
    address, fresh = serve(), serve()

    def go(out: str, vlm: str, *verifier: str) -> dict[str, Any]:
        return run(world["captions"], world["instances"], [], "p1", tmp_path / out, 0, images=world["images"],
                   vlm=vlm, verifier=verifier, proposals=3)  # fmt: skip

    alone = go("grown.json", address)
    together = go("grown.json", address, "instances")
    assert _stats(address)["delivered_again"] == 0
    assert "verifiers" not in alone and together["disputed"] > 0
    assert set(together["verifiers"]) == {"instances", "vlm"}
    assert set(together["verifiers"]["vlm"]) == {"absent", "present", "unsure"}
    # As if both had been asked from the beginning; what was asked of things that only one of them knows is no matter.
    anew = go("anew.json", fresh, "instances")
    grown, whole = (json.loads((tmp_path / f"{name}.json").read_text("utf-8")) for name in ("grown", "anew"))
    for part in ("annotations", "present"):
        assert grown[part] == whole[part]
    assert together["rejected"] == anew["rejected"] and "verifiers disagree" in anew["rejected"]
    assert _stats(address)["billed"] < _stats(fresh)["billed"] + alone["read"] * 3
    # One who said something cannot be left out again.
    with pytest.raises(RequestError, match="was begun with another verifiers"):
        go("grown.json", address)


@pytest.mark.parametrize("make", [make_owl, make_grounding_dino])
def test_a_detector_verifies(make: Callable[[Path], Path], world: dict[str, Path], tmp_path: Path) -> None:
    name = f"detector:{make(tmp_path / 'model')}"

    def go(threshold: float) -> dict[str, Any]:
        return run(world["captions"], world["instances"], [], "p1", tmp_path / f"{threshold}.json", 0,
                   images=world["images"], verifier=(name,), threshold=threshold)  # fmt: skip

    blind, seeing = go(1.0), go(0.0)
    assert blind["written"] > 0 == blind["refuted"] and seeing["refuted"] > 0 == seeing["written"]


def test_a_detector_says_of_pictures_together_what_it_says_of_each(tmp_path: Path) -> None:
    random, folder = np.random.default_rng(0), make_owl(tmp_path / "model")
    sizes = ((40, 90), (90, 40), (64, 64), (32, 200))
    for number, size in enumerate(sizes):
        Image.fromarray(random.integers(0, 256, (*size, 3), np.uint8)).save(tmp_path / f"{number}.png")

    async def ask(threshold: float, at_once: int) -> list[bool | None]:
        async with DetectorVerifier(str(folder), "cpu", tmp_path, threshold, at_once) as verifier:
            asks = (
                verifier.present({"file_name": f"{number}.png"}, Claim(thing), random)
                for number in range(len(sizes))
                for thing in ("car", "dog")
            )
            return list(await asyncio.gather(*asks))

    found = [asyncio.run(ask(threshold, 8)) for threshold in (0.4, 0.5, 0.6)]
    assert found == [asyncio.run(ask(threshold, 1)) for threshold in (0.4, 0.5, 0.6)]
    assert len({answer for row in found for answer in row}) == 2


def test_a_hat_that_a_detector_finds_may_be_somebody_elses(tmp_path: Path) -> None:
    folder = make_owl(tmp_path / "model")
    Image.new("RGB", (32, 32)).save(tmp_path / "0.png")

    async def ask(threshold: float) -> bool | None:
        async with DetectorVerifier(str(folder), "cpu", tmp_path, threshold, 8) as verifier:
            claim = Claim("hat", "man", "worn")
            return await verifier.present({"file_name": "0.png"}, claim, np.random.default_rng(0))

    assert (asyncio.run(ask(0.0)), asyncio.run(ask(1.0))) == (None, False)


def test_what_cannot_verify_is_told_in_one_line(world: dict[str, Path], tmp_path: Path) -> None:
    blip = make_blip(tmp_path / "blip", "yes")
    cases: dict[str, dict[str, Any]] = {
        "expected instances or detector:MODEL": {"verifier": ("psychic",)},
        "no model called": {"verifier": (f"detector:{tmp_path / 'nothing'}",)},
        "cannot be loaded as an open-vocabulary detector": {"verifier": (f"detector:{blip}",)},
        "--threshold 2: expected a score from 0 to 1": {"threshold": 2.0},
        "--images: --verifier looks at pictures": {"verifier": ("detector:x",), "images": None},
        "--images .*nowhere: no such folder": {"verifier": ("detector:x",), "images": tmp_path / "nowhere"},
        "say with --max-fall": {"clip": "miniature"},
        "expected 0 or more, and --clip": {"max_fall": 0.1},
        "no image tower|no model called": {"clip": str(tmp_path / "nothing"), "max_fall": 0.1},
    }
    for why, options in cases.items():
        given = {"images": world["images"]} | options
        with pytest.raises(RequestError, match=why) as error:
            run(world["captions"], world["instances"], [], "p1", tmp_path / "out.json", 0, **given)
        assert "\n" not in str(error.value)
    with pytest.raises(RequestError, match="--verifier instances: name their file with --instances"):
        run(world["captions"], None, [], "p1", tmp_path / "out.json", 0, verifier=("instances",))
    assert not list(tmp_path.glob("out*"))


def test_a_caption_that_fits_less_is_rejected_and_pictures_are_encoded_once(
    world: dict[str, Path], clip_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_ASSETS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("huggingface_hub.constants.HF_ASSETS_CACHE", str(tmp_path / "cache"))
    encoded: list[int] = []
    encode = Clip.encode_pixels

    def counted(own: Clip, pixels: Any) -> Any:
        encoded.append(len(pixels))
        return encode(own, pixels)

    monkeypatch.setattr(Clip, "encode_pixels", counted)

    def go(name: str, **options: Any) -> tuple[dict[str, Any], dict[int, str]]:
        counts = run(world["captions"], world["instances"], [], "p1", tmp_path / name, 0, **options)
        document = json.loads((tmp_path / name).read_text("utf-8"))
        return counts, {entry["caption_id"]: entry["updated_caption"] for entry in document["annotations"]}

    looks: dict[str, Any] = {"images": world["images"], "clip": str(clip_folder), "max_fall": 0.01}
    (_, every), (counts, kept), (again, _) = (
        go("every.json"),
        go("kept.json", **looks),
        go("again.json", **looks),
    )
    document = json.loads(world["captions"].read_text("utf-8"))
    assert sum(encoded) == len({entry["image_id"] for entry in document["annotations"]})
    clip, names = load_clip(clip_folder), {image["id"]: image["file_name"] for image in document["images"]}
    fits = set()
    for entry in document["annotations"]:
        if text := every.get(entry["id"]):
            texts = clip.encode_text([entry["caption"], text])
            picture = clip.encode_image([open_image(world["images"] / names[entry["image_id"]])])[0]
            before, after = (texts @ picture).tolist()
            fits |= {entry["id"]} if before - after <= 0.01 else set()
    assert kept == {key: every[key] for key in fits} and 0 < len(fits) < len(every)
    assert counts["rejected"]["fits the picture less than the caption"] == len(every) - len(fits)
    assert again | {"out": ""} == counts | {"out": ""}
