"""Who reads models from outside: weights in every layout, their configs, tokenizers and training states (see `damage`)."""

import json
from pathlib import Path
from typing import Any

import torch
from conftest import write_tiny_clip  # type: ignore[import-not-found]
from damage import Parser, Target  # type: ignore[import-not-found]
from safetensors.torch import save_file
from spoiling import (  # type: ignore[import-not-found]
    spoil_archive,
    spoil_bytes,
    spoil_header,
    spoil_json,
    spoil_text,
)
from torch import Tensor

__all__ = ["MODELS", "tiny_clip"]

_WIDTH, _WORDS, _CONTEXT = 8, 12, 5


def tiny_clip(folder: Path) -> Path:
    """A random CLIP as an open_clip folder, with its tokenizer."""
    from negclip_core.world.tokenizer import write_tokenizer

    write_tokenizer(folder / "tokenizer")
    return write_tiny_clip(folder, folder / "tokenizer", seed=1, width=32, layers=1)


def _text_tower() -> dict[str, Tensor]:
    """A text tower of a few thousand bytes in OpenAI's layout."""
    block = "transformer.resblocks.0."
    shapes: dict[str, tuple[int, ...]] = {
        "token_embedding.weight": (_WORDS, _WIDTH), "positional_embedding": (_CONTEXT, _WIDTH), "ln_final.weight": (_WIDTH,),
        "ln_final.bias": (_WIDTH,), "text_projection": (_WIDTH, 4), "logit_scale": (),
        f"{block}attn.in_proj_weight": (3 * _WIDTH, _WIDTH), f"{block}attn.in_proj_bias": (3 * _WIDTH,),
        f"{block}attn.out_proj.weight": (_WIDTH, _WIDTH), f"{block}attn.out_proj.bias": (_WIDTH,),
        f"{block}mlp.c_fc.weight": (2 * _WIDTH, _WIDTH), f"{block}mlp.c_fc.bias": (2 * _WIDTH,),
        f"{block}mlp.c_proj.weight": (_WIDTH, 2 * _WIDTH), f"{block}mlp.c_proj.bias": (_WIDTH,),
    } | {f"{block}{name}.{kind}": (_WIDTH,) for name in ("ln_1", "ln_2") for kind in ("weight", "bias")}  # fmt: skip
    torch.manual_seed(0)
    return {name: torch.randn(shape) for name, shape in shapes.items()}


class _Named(torch.nn.Module):
    """Tensors under dotted names, as a module that TorchScript can write."""

    def forward(self, x: Tensor) -> Tensor:
        return x

    @classmethod
    def of(cls, tensors: dict[str, Tensor]) -> "_Named":
        module = cls()
        for first in dict.fromkeys(name.split(".")[0] for name in tensors):
            below = {n.partition(".")[2]: t for n, t in tensors.items() if n.split(".")[0] == first}
            if "" in below:
                module.register_parameter(first, torch.nn.Parameter(below[""]))
            else:
                module.add_module(first, cls.of(below))
        return module


def _read(path: Path) -> None:
    from negclip_core.checkpoints import read_checkpoint

    checkpoint = read_checkpoint(path)
    assert all(tensor.dtype == torch.float32 for tensor in checkpoint.weights.values())


def _use(path: Path) -> None:
    """Load a whole CLIP and read a text with it."""
    from negclip_core.clip import load_clip

    clip = load_clip(path)
    assert clip.encode_text(["a street with no cars"]).isfinite().all()
    clip.encode_image([_grey()])


def _grey() -> Any:
    from PIL import Image

    return Image.new("RGB", (16, 16), (90, 90, 90))


def safetensors(folder: Path) -> list[Target]:
    """A file, and the index of one in shards."""
    from safetensors.torch import load_file

    path, index = folder / "a.safetensors", folder / "model.safetensors.index.json"
    save_file(_text_tower(), path)
    names = dict.fromkeys(load_file(path), path.name)
    index.write_text(json.dumps({"metadata": {"total_size": path.stat().st_size}, "weight_map": names}))
    return [
        Target(path, lambda: _read(path), spoil_header),
        Target(index, lambda: _read(index), spoil_json),
    ]


def archives(folder: Path) -> list[Target]:
    """OpenAI's TorchScript archives, state dicts and pickles of old."""
    script, saved, old = (folder / name for name in ("script.pt", "saved.pt", "old.pt"))
    torch.jit.save(torch.jit.script(_Named.of(_text_tower())), str(script))
    torch.save(_text_tower(), saved)
    torch.save(_text_tower(), old, _use_new_zipfile_serialization=False)
    for path in (script, saved, old):
        _read(path)
    return [
        Target(script, lambda: _read(script), spoil_archive),
        Target(saved, lambda: _read(saved), spoil_archive),
        Target(old, lambda: _read(old), spoil_bytes),
    ]


def configs(folder: Path) -> list[Target]:
    """The configs of open_clip's and transformers' folders."""
    from negclip_core.convert import write_checkpoint

    own, other = tiny_clip(folder / "open_clip"), folder / "transformers"
    from negclip_core.clip import load_clip

    write_checkpoint(load_clip(own).checkpoint, other, "transformers", {})
    return [
        Target(own / "open_clip_config.json", lambda: _use(own), spoil_json),
        Target(other / "config.json", lambda: _use(other), spoil_json),
        Target(other / "preprocessor_config.json", lambda: _use(other), spoil_json),
    ]


def tokenizers(folder: Path) -> list[Target]:
    """A CLIP's own words."""
    clip = tiny_clip(folder)
    ways = {"vocab.json": spoil_json, "merges.txt": spoil_text, "tokenizer_config.json": spoil_json}
    return [
        Target(clip / name, lambda: _use(clip), way) for name, way in ways.items() if (clip / name).is_file()
    ]


def states(folder: Path) -> list[Target]:
    """The state that a training run goes on from."""
    from negclip_core.clip import load_clip
    from negclip_core.training.recipe import Recipe
    from negclip_core.training.run import Run
    from negclip_core.training.states import States

    clip = load_clip(tiny_clip(folder / "clip"))
    recipe = Recipe("test", ({"name": "infonce"},), 1e-3, 4, 1)
    path = folder / "run.ckpt"

    def run() -> Run:
        return Run(clip.model, recipe, None, 4)  # type: ignore[arg-type]

    first = run()
    first.parameters = dict(list(first.parameters.items())[:2])
    first.save(States(path))

    def read() -> None:
        again = run()
        again.parameters = {name: p for name, p in again.parameters.items() if name in first.parameters}
        again.load(States(path))
        assert isinstance(again.step, int)

    return [Target(path, read, spoil_archive)]


MODELS: dict[str, Parser] = {
    parser.__name__: parser for parser in (safetensors, archives, configs, tokenizers, states)
}
