"""Every cell of the tables in docs/hosts.md: which encoder fits which host, and what one may do with it."""

import json
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from hosts import (  # type: ignore[import-not-found]  # pytest puts tests/ on the path
    HOSTS,
    OPTIONS,
    PUBLISHED,
    drawer,
    make_host,
    published_host,
)
from manners import MANNERS, NEGATED, Subject, Unavailable  # type: ignore[import-not-found]

from integrations.arms import Arm
from integrations.methods import has_guidance, method_names
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


FITS, DOES, DENIES = tables()


@pytest.fixture(scope="module")
def subject(clip_folder: Path, other_clip_folder: Path, wide_clip_folder: Path) -> Make:
    """A fresh pipeline of a host, with what a manner needs."""
    encoder = load_clip(other_clip_folder)
    return lambda host: Subject(make_host(host, clip_folder, wide_clip_folder), encoder, drawer(host))


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
    clip = Clip(
        encoder, Checkpoint({"text_projection": torch.empty(0)}, config, "openai", ""), torch.device("cpu")
    )
    try:
        slot = check_fit(published_host(host), clip)
    except RequestError as error:
        assert FITS[encoder, host] == "no", error
    else:
        assert FITS[encoder, host] == f"`{slot.module}`, {slot.reads.replace('_', ' ')}"


@pytest.mark.parametrize("host", HOSTS)
@pytest.mark.parametrize("method", method_names())
def test_method(
    method: str, host: str, clip_folder: Path, other_clip_folder: Path, wide_clip_folder: Path
) -> None:
    pipe = make_host(host, clip_folder, wide_clip_folder)
    arm = Arm.of(method, load_clip(other_clip_folder))
    settings = {
        "num_inference_steps": 2,
        "output_type": "np",
        "height": 16,
        "width": 16,
        **OPTIONS.get(host, {}),
    }
    try:
        arm.check(pipe)
    except RequestError as error:
        assert DENIES[f"`{method}`", host] == "no UNet", error
        return
    with Arm.vanilla().applied(pipe, **settings) as draw:
        # What a method leaves to the text encoder is the affirmative rest.
        vanilla = np.asarray(draw([NEGATED if arm.method.SWAPS_TEXT_ENCODER else "a street"], [0])[0])
    with arm.applied(pipe, **settings) as draw:
        moved = not np.array_equal(np.asarray(draw([NEGATED], [0])[0]), vanilla)
    assert moved == (DENIES[f"`{method}`", host] == "yes")
    # What is said of a method that does nothing is said of no other.
    assert moved == (has_guidance(pipe, 7.0) or not arm.method.NEEDS_GUIDANCE)


def test_the_tables_are_whole() -> None:
    assert set(FITS) == {(encoder, host) for encoder in ENCODERS for host in PUBLISHED}
    assert set(DOES) == {(manner.__doc__, host) for manner in MANNERS.values() for host in HOSTS}
    assert set(DENIES) == {(f"`{method}`", host) for method in method_names() for host in HOSTS}
