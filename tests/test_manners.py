"""Every cell of the tables in docs/hosts.md: which encoder fits which host, and what one may do with it."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hosts import (  # type: ignore[import-not-found]  # pytest puts tests/ on the path
    HOSTS,
    OPTIONS,
    PUBLISHED,
    make_host,
    published_host,
)
from manners import MANNERS, Subject, Unavailable  # type: ignore[import-not-found]

from integrations.stable_diffusion import check_fit
from negclip_core.checkpoints import Checkpoint
from negclip_core.clip import Clip, load_clip
from negclip_core.errors import RequestError
from negclip_core.models import architecture_file

Make = Callable[[str], Subject]
ENCODERS = ("ViT-B-32", "ViT-B-16", "ViT-L-14", "ViT-L-14-336", "ViT-H-14", "ViT-bigG-14", "LongCLIP-L")


def tables() -> list[dict[tuple[str, str], str]]:
    """The tables of docs/hosts.md: each cell by its row's and its column's heading."""
    found: list[dict[tuple[str, str], str]] = []
    text = (Path(__file__).parents[1] / "docs" / "hosts.md").read_text("utf-8")
    for block in re.findall(r"(?:^\|.*\n)+", text, re.MULTILINE):
        rows = [[cell.strip() for cell in line.strip("|\n").split("|")] for line in block.splitlines()]
        heads, body = rows[0][1:], rows[2:]
        found.append(
            {(row[0], head): cell for row in body for head, cell in zip(heads, row[1:], strict=True)}
        )
    return found


FITS, DOES = tables()


@pytest.fixture(scope="module")
def subject(clip_folder: Path, other_clip_folder: Path, wide_clip_folder: Path) -> Make:
    """A fresh pipeline of a host, with what a manner needs."""
    encoder = load_clip(other_clip_folder)

    def make(host: str) -> Subject:
        def draw(pipe: Any, prompt: Any, **options: Any) -> torch.Tensor:
            count = (len(prompt) if isinstance(prompt, list) else 1) * options.get("num_images_per_prompt", 1)
            generators = [torch.Generator().manual_seed(seed) for seed in range(count)]
            sizes = {} if "image" in options else {"height": 16, "width": 16}
            settings = {
                "num_inference_steps": 2,
                "output_type": "latent",
                **sizes,
                **OPTIONS.get(host, {}),
                **options,
            }
            return pipe(prompt=prompt, generator=generators, **settings).images

        return Subject(make_host(host, clip_folder, wide_clip_folder), encoder, draw)

    return make


@pytest.mark.parametrize("manner", MANNERS)
@pytest.mark.parametrize("host", HOSTS)
def test_manner(host: str, manner: str, subject: Make) -> None:
    does = MANNERS[manner]
    if DOES[does.__doc__, host] == "yes":
        does(subject(host))
    else:
        with pytest.raises(Unavailable) as why:
            does(subject(host))
        assert DOES[does.__doc__, host] == str(why.value)


@pytest.mark.parametrize("encoder", ENCODERS)
@pytest.mark.parametrize("host", PUBLISHED)
def test_encoder_and_host(host: str, encoder: str) -> None:
    file = architecture_file("ViT-L-14" if encoder == "LongCLIP-L" else encoder)
    assert file is not None
    config = json.loads(file.read_text("utf-8"))
    if encoder == "LongCLIP-L":
        config["text_cfg"]["context_length"] = 248
    clip = Clip(encoder, Checkpoint({}, config, "openai", ""), torch.device("cpu"))
    try:
        slot = check_fit(published_host(host), clip)
    except RequestError as error:
        assert FITS[encoder, host] == "no", error
    else:
        assert FITS[encoder, host] == f"`{slot.module}`, {slot.reads.replace('_', ' ')}"


def test_the_tables_are_whole() -> None:
    assert set(FITS) == {(encoder, host) for encoder in ENCODERS for host in PUBLISHED}
    assert set(DOES) == {(manner.__doc__, host) for manner in MANNERS.values() for host in HOSTS}
