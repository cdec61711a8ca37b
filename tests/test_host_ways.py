"""Ways that are found through a host: they lead where the host is asked to go, and a search goes on where it stopped."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from negclip_core.clip import Clip
from negclip_core.errors import RequestError
from negclip_core.training import host_ways as module
from negclip_core.training.data import TrainingSet
from negclip_core.training.host_ways import host_ways
from negclip_core.training.objectives import Situation, create
from negclip_core.training.objectives.token_targets import ways
from pipelines.train import run
from pipelines.train_inputs import Asked, load_denoiser, ways_through


class Blind:
    """A host that sees some dimensions of the text states only: the mean of d also goes where nothing is seen."""

    asked = 0

    def noisy(self, images: Tensor) -> tuple[Tensor, Tensor]:
        return torch.rand(len(images), 1), torch.zeros(len(images))

    def predict(self, latents: Tensor, times: Tensor, states: Tensor) -> Tensor:
        self.asked += 1
        return states.mean(1)[:, :8] * (1 + latents)


class Stopped(Blind):
    def predict(self, latents: Tensor, times: Tensor, states: Tensor) -> Tensor:
        if self.asked == 2 * module._STEPS + 3:  # while it searches the second thing
            raise KeyboardInterrupt
        return super().predict(latents, times, states)


@pytest.fixture(autouse=True)
def little(monkeypatch: pytest.MonkeyPatch) -> None:
    """As many steps and rows as the corpus has use for."""
    for name, value in {"_STEPS": 30, "_BATCH": 4, "_LEAST_ROWS": 1, "_RATE": 0.02}.items():
        monkeypatch.setattr(module, name, value)


def _found(clip: Clip, data: TrainingSet, host: Blind, store: Path) -> Tensor:
    return host_ways(clip.model, data, host, store, quiet=True)


def test_a_way_brings_the_host_nearer_to_what_it_is_asked_for(
    clip: Clip, data: TrainingSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_RIDGE", 1e9)  # nothing is taken out again
    found = _found(clip, data, Blind(), tmp_path / "ways.safetensors")
    means = torch.nn.functional.normalize(ways(clip.model, data).last, dim=-1)
    torch.testing.assert_close(found.norm(dim=-1), torch.ones(len(found)))
    thing = data.absent.names.index("cars") if "cars" in data.absent.names else 0
    rows = data.absent.denying(thing)

    def least_error(way: Tensor) -> float:
        """Over lengths, of which training chooses one."""
        errors = []
        for length in (0.5, 1.0, 1.5, 2.0, 3.0):
            torch.manual_seed(0)
            errors.append(module._error(clip.model, data, rows, Blind(), length * way).item())
        return min(errors)

    assert least_error(found[thing]) < least_error(means[thing])


def test_a_search_that_was_stopped_goes_on_to_the_same_ways(
    clip: Clip, data: TrainingSet, tmp_path: Path
) -> None:
    whole = _found(clip, data, Blind(), tmp_path / "whole.safetensors")
    store = tmp_path / "ways.safetensors"
    with pytest.raises(KeyboardInterrupt):
        _found(clip, data, Stopped(), store)
    rest = Blind()
    assert torch.equal(_found(clip, data, rest, store), whole)
    again = Blind()
    assert torch.equal(_found(clip, data, again, store), whole)
    assert rest.asked and not again.asked
    store.write_bytes(b"damaged")
    assert torch.equal(_found(clip, data, Blind(), store), whole)


def test_what_leads_along_other_things_is_taken_out() -> None:
    way, others = torch.tensor([1.0, 1.0, 0.0]), torch.tensor([[1.0, 0.0, 0.0]])
    cleaned = module._without(way, others)
    torch.testing.assert_close(cleaned, torch.tensor([module._RIDGE / (1 + module._RIDGE), 1.0, 0.0]))


def test_targets_go_along_the_ways_they_are_given(clip: Clip, data: TrainingSet) -> None:
    objective = {"name": "token_targets", "through_host": True, "batch": 8}
    means = torch.nn.functional.normalize(ways(clip.model, data).last, dim=-1)

    def loss(given: Tensor) -> Tensor:
        torch.manual_seed(0)
        every = torch.arange(len(data.image))
        found: Tensor = create(objective)(Situation(clip.model, clip.model, data, every, ways=given))
        return found

    torch.manual_seed(0)
    plain = create({**objective, "through_host": False})(
        Situation(clip.model, clip.model, data, torch.arange(len(data.image)))
    )
    assert loss(-means) != loss(means)
    assert abs(loss(means) - plain) < abs(loss(-means) - plain)


def test_ways_are_found_again_by_what_they_were_made_of_and_by_nothing_else(
    clip: Clip, data: TrainingSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.cached_assets_path", lambda *names: tmp_path)
    monkeypatch.setattr(module, "host_ways", lambda clip, data, host, store, quiet: store)
    host = Asked(Blind(), "a", "b")
    read: Any = SimpleNamespace(data=data, sha256="c")

    def store(host: Asked, base: Any, read: Any) -> Any:
        return ways_through(host, base, read, quiet=True)

    less = TrainingSet(**{**vars(data), "training": torch.zeros_like(data.training)})
    stores = [
        store(host, clip, read),
        store(host._replace(sha256="x"), clip, read),
        store(host._replace(pictures="x"), clip, read),
        store(host, SimpleNamespace(model=None, sha256="x"), read),
        store(host, clip, SimpleNamespace(data=data, sha256="x")),
        store(host, clip, SimpleNamespace(data=less, sha256="c")),
    ]
    assert len(set(stores)) == len(stores)
    assert store(host._replace(denoiser=Blind()), clip, read) == stores[0]


def test_pictures_are_known_by_what_the_host_sees_of_them(corpus: Path) -> None:
    names = tuple(sorted(path.name for path in corpus.glob("*.png")))
    asked = [
        load_denoiser("miniature", corpus, some, (), False, torch.device("cpu")).pictures
        for some in (names, names, names[::-1])
    ]
    assert asked[0] == asked[1] != asked[2]


def test_the_recipe_asks_for_a_host(clip_folder: Path, corpus: Path, tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="recipe 'host-ways' asks a diffusion host; name it with --host"):
        run(corpus / "captions.json", corpus, str(clip_folder), tmp_path / "out", "host-ways", quiet=True)
    assert not (tmp_path / "out").exists()
