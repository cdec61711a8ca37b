"""The judge of miniature pictures: a small convolutional network that names what a drawing shows.

It says for each cell of 8 x 8 pixels what it sees there; a thing is in the picture if some cell is sure of it.
Trained on drawings only (pipelines/miniature/judge.py), never on generated pictures.
"""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from eval.judges import Answers
from negclip_core.errors import RequestError, reason_of
from negclip_core.files import atomic_path, atomic_write_json, sha256_folder
from negclip_core.world.catalog import ATTRIBUTES, KINDS, PLACES, catalog
from negclip_core.world.scenes import Scene, Thing

__all__ = ["LABELS", "JudgeNetwork", "MiniatureJudge", "scene_labels", "thing_labels"]

GENDERS = ("man", "woman")
_WEIGHTS, _CONFIG = "model.safetensors", "config.json"
_BATCH = 256


def _all_labels() -> tuple[str, ...]:
    coloured = [f"{colour} {kind}" for kind in KINDS for colour in catalog()["kinds"][kind]["colours"]]
    worn = [f"{gender} with {attribute}" for gender in GENDERS for attribute in ATTRIBUTES]
    return (*KINDS, *ATTRIBUTES, *GENDERS, *worn, *coloured, *PLACES)


LABELS: tuple[str, ...] = _all_labels()


def thing_labels(thing: Thing) -> set[str]:
    """The labels that hold of one thing: "person", "man", "hat", "man with hat", "red person"."""
    labels = {thing.kind}
    if thing.colour:
        labels.add(f"{thing.colour} {thing.kind}")
    if thing.gender:
        labels |= {thing.gender, *thing.attributes, *(f"{thing.gender} with {a}" for a in thing.attributes)}
    return labels


def scene_labels(scene: Scene) -> set[str]:
    """The labels that hold of a picture of `scene`."""
    return {scene.place}.union(*(thing_labels(thing) for thing in scene.things))


def _convolution(inside: int, outside: int, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inside, outside, 3, stride, 1, bias=False), nn.BatchNorm2d(outside), nn.ReLU(inplace=True)
    )


class _Residual(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.body = _convolution(width, width)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.body(x)


class JudgeNetwork(nn.Module):
    """Pictures float[n, 3, h, w] in [0, 1] -> logits [n, labels] and, for each cell, [n, labels, h / 8, w / 8]."""

    def __init__(self, labels: int, widths: tuple[int, int, int] = (32, 64, 128)) -> None:
        super().__init__()
        a, b, c = widths
        self.features = nn.Sequential(
            _convolution(3, a, 2), _Residual(a),
            _convolution(a, b, 2), _Residual(b), _Residual(b),
            _convolution(b, c, 2), _Residual(c), _Residual(c),
        )  # fmt: skip
        self.cells = nn.Conv2d(c, labels, 1)

    def forward(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        pixels = pixels.sub(0.5).div(0.25).contiguous(memory_format=torch.channels_last)
        cells = self.cells(self.features(pixels)).float()
        flat = cells.flatten(2)
        # A smooth maximum: the gradient reaches every cell, the verdict is the surest cell's.
        return (flat.softmax(2) * flat).sum(2), cells


class MiniatureJudge:
    """A trained network with a threshold for each label; see `eval.judges.Judge`."""

    def __init__(
        self,
        network: JudgeNetwork,
        labels: tuple[str, ...],
        thresholds: dict[str, float],
        version: str = "",
    ) -> None:
        self.network = network.eval().to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.labels = labels
        self.thresholds = thresholds
        self.version = version

    @classmethod
    def load(cls, folder: str | Path) -> "MiniatureJudge":
        """Read a judge that `save` wrote.

        Raises:
            RequestError: the folder does not hold one.
        """
        folder = Path(folder)
        try:
            config = json.loads((folder / _CONFIG).read_text("utf-8"))
            weights = load_file(folder / _WEIGHTS)
            network = JudgeNetwork(len(config["labels"]), tuple(config["widths"]))
            network.load_state_dict({name: value.float() for name, value in weights.items()})
            thresholds = {k: float(v) for k, v in config["thresholds"].items()}
            return cls(network, tuple(config["labels"]), thresholds, sha256_folder(folder))
        except (OSError, ValueError, KeyError, TypeError, RuntimeError, SafetensorError) as error:
            raise RequestError(
                f"{folder}: not a judge ({reason_of(error)}); it needs {_CONFIG} and {_WEIGHTS}, "
                "made by negclip miniature build"
            ) from error

    def save(self, folder: Path) -> None:
        """Write config.json and half-precision model.safetensors."""
        state = self.network.state_dict()
        with atomic_path(folder / _WEIGHTS) as path:
            save_file(
                {k: v.half().contiguous() if v.is_floating_point() else v for k, v in state.items()}, path
            )
        widths = [self.network.features[i][0].out_channels for i in (0, 2, 5)]
        config = {"labels": list(self.labels), "widths": widths, "thresholds": self.thresholds}
        atomic_write_json(folder / _CONFIG, config)

    @torch.inference_mode()
    def presence(self, images: np.ndarray) -> dict[str, np.ndarray]:
        """Label -> probability float32[n], for RGB pictures uint8[n, height, width, 3] (sides multiples of 8)."""
        if images.ndim != 4 or images.shape[3] != 3 or images.dtype != np.uint8:
            raise ValueError(f"expected uint8 pictures [n, h, w, 3], got {images.dtype} {list(images.shape)}")
        pixels = torch.from_numpy(images).permute(0, 3, 1, 2)
        parts = [self.network(part.float().div(255))[0].sigmoid() for part in pixels.split(_BATCH)]
        table = torch.cat(parts).numpy() if parts else np.zeros((0, len(self.labels)), np.float32)
        return {label: table[:, i] for i, label in enumerate(self.labels)}

    def decide(self, images: np.ndarray) -> dict[str, np.ndarray]:
        """Label -> whether its probability reaches the label's threshold, bool[n]."""
        return {label: p >= self.thresholds[label] for label, p in self.presence(images).items()}

    def answers(self, pictures: np.ndarray, asked: Sequence[Sequence[str]]) -> list[Answers]:
        """See `Judge`; it answers every question."""
        verdicts = self.decide(pictures)
        return [{label: bool(verdicts[label][row]) for label in labels} for row, labels in enumerate(asked)]
