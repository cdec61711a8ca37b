"""What `negclip train` reads for a text tower: the CLIP to start from, captions, images, the diffusion host that is asked."""

import json
from collections import Counter
from collections.abc import Container
from hashlib import sha256
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from negclip_core.errors import RequestError
from negclip_core.models import arms_of

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from negclip_core.clip import Clip
    from negclip_core.training.data import TrainingSet
    from negclip_core.training.features import Features
    from negclip_core.training.tables import CaptionTables

__all__ = ["Asked", "Read", "load_base", "load_denoiser", "read_inputs", "ways_through"]


class Asked(NamedTuple):
    """The frozen diffusion host that a recipe asks."""

    denoiser: Any
    sha256: str
    # SHA-256 of the training images as it is shown them; their latents' last bits change with the number of threads.
    pictures: str


def load_denoiser(
    name: str, folder: Path, names: tuple[str, ...], bad: Container[str], bf16: bool, device: "torch.device"
) -> Asked:
    """The host `name` over the training images; `bad` ones are never asked for."""
    import numpy as np
    import torch

    from integrations.denoiser import Denoiser
    from negclip_core.images import open_image
    from negclip_core.training.shards import open_named
    from pipelines.host import load_host

    found = load_host(name, str(device))
    pipe = found.pipe.to(torch.float32)
    side = pipe.vae.config.sample_size
    pixels = np.zeros((len(names), side, side, 3), np.uint8)
    for row, name_of_image in enumerate(names):
        if name_of_image not in bad:
            with open_named(folder, name_of_image) as content:
                pixels[row] = open_image(folder / name_of_image, content).resize((side, side))
    images = torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 127.5 - 1
    return Asked(Denoiser(pipe, images, bf16=bf16), found.sha256, sha256(pixels.data).hexdigest())


class Read(NamedTuple):
    """What a run has read of its captions and images."""

    data: "TrainingSet"
    rows: "tuple[Tensor, Tensor]"  # for training and for validation
    captions: "CaptionTables"
    features: "Features"
    sha256: str  # of the captions


def load_base(name: str, device: "torch.device") -> "Clip":
    """The CLIP to start from. Raises RequestError where it has no image tower."""
    from negclip_core.clip import load_clip

    base = load_clip(arms_of(name)["vanilla"].source, device=device)
    if "vision_cfg" not in base.config:
        raise RequestError(
            f"{name}: is a text tower only; training looks at pictures: name the whole CLIP that it is of"
        )
    return base


def read_inputs(
    captions: Path,
    images: Path,
    base: "Clip",
    out: Path,
    limit: int | None,
    split: str,
    most_bad: float,
    quiet: bool,
) -> Read:
    """A run's captions and what it sees of their images, split by `split`, see `split_rows`.

    Captions are kept in `out`/captions, features of images in the hub's cache, where later runs find them. Images that cannot
    be read are listed in `out`/bad_images.jsonl.

    Args:
        limit: how many captions are read; None: all.
        most_bad: the share of images that may be missing or broken.

    Raises:
        RequestError: the captions, or more images than that, cannot be read.
    """
    from negclip_core.files import atomic_write_text
    from negclip_core.training.captions_file import fingerprint, read_captions
    from negclip_core.training.data import TrainingSet, split_rows
    from negclip_core.training.features import image_features, kept_features
    from negclip_core.training.tables import caption_tables
    from negclip_core.training.text import reads_padding

    padded = reads_padding(base.model)
    digest = fingerprint(captions)
    counts: Counter[str] = Counter()
    tables = caption_tables(islice(read_captions(captions, counts), limit), base.tokenizer, out / "captions", counts=counts,
                            key=f"{digest} {limit} {base.sha256}" + " padded" * padded, padded=padded, quiet=quiet)  # fmt: skip
    features = image_features(
        base, images, list(tables.images), kept_features(base), most_bad=most_bad, quiet=quiet
    )
    if features.bad:
        lines = [json.dumps({"file_name": name, "why": why}) for name, why in features.bad.items()]
        atomic_write_text(out / "bad_images.jsonl", "\n".join(lines) + "\n")
    rows = split_rows(tables, split)
    data = TrainingSet.make(tables, features, base.tokenizer, padded, base.device, training=rows[0])
    return Read(data, rows, tables, features, digest)


def ways_through(host: Asked, base: "Clip", read: Read, quiet: bool) -> "Tensor":
    """The ways through the host, float32 [things, width], kept in the hub's cache for other runs on the same captions."""
    from filelock import FileLock
    from huggingface_hub import cached_assets_path

    from negclip_core.training.host_ways import host_ways

    key = sha256(read.data.training.numpy().data)
    for part in (read.sha256, base.sha256, host.sha256, host.pictures):
        key.update(part.encode())
    store = Path(cached_assets_path("negclip", "ways")) / f"{key.hexdigest()[:32]}.safetensors"
    # Two runs may need the same ways at once: the second waits, and finds them.
    with FileLock(store.with_suffix(".lock")):
        return host_ways(base.model, read.data, host.denoiser, store, quiet=quiet)
