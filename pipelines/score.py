"""`negclip score`: how well texts fit pictures, for several text encoders on the same image tower."""

from typing import Any

from negclip_core.errors import RequestError
from negclip_core.images import open_image
from negclip_core.models import Source, arms_of
from pipelines.console import pick_device
from pipelines.shelf import Shelf

__all__ = ["run", "table"]


def run(
    images: list[str],
    texts: list[str],
    clip: str,
    arms: list[str],
    device: str,
    shelf: Shelf | None = None,
) -> dict[str, Any]:
    """Cosines and, for each picture, a softmax over the texts.

    Args:
        clip: a CLIP with known arms (`negclip_core/models.json`) or any other, which has the arm `vanilla` alone.
        arms: names of those arms, or CLIPs by themselves.
        shelf: models that were loaded for earlier requests, and where those of this one are kept.

    Raises:
        RequestError: a picture, a text, the CLIP or an arm is not what it should be.
    """
    if not texts:
        raise RequestError("no text: give one or more to compare the picture with")
    for position, text in enumerate(texts, 1):
        if not text.strip():
            raise RequestError(f"text {position} of {len(texts)} is blank: give a caption")
    pictures = [open_image(path) for path in images]
    sources = {arm: _source(arm, clip) for arm in arms}
    device = pick_device(device)
    from negclip_core.clip import load_clip

    shelf = shelf or Shelf()
    base = shelf.get(load_clip, arms_of(clip)["vanilla"].source, device=device)
    result: dict[str, Any] = {}
    for arm, source in sources.items():
        own = shelf.get(load_clip, source.source, source.architecture, device, base=base)
        similarity = own.encode_image(pictures) @ own.encode_text(texts).T
        probability = (own.logit_scale * similarity).softmax(dim=1)
        result[arm] = {"similarity": similarity.tolist(), "probability": probability.tolist()}
    return {"arms": result, "images": images, "texts": texts}


def _source(arm: str, clip: str) -> Source:
    known = arms_of(clip)
    if arm in known:
        return known[arm]
    if arm in ("", "negationclip"):
        raise RequestError(
            f"--arms: {clip} has no arm {arm!r}: expected {', '.join(known)}, or a CLIP by name or path"
        )
    return Source(arm)


def table(result: dict[str, Any]) -> list[str]:
    """The result in lines for a person: for each picture and text, cosine and share of each arm."""
    arms = list(result["arms"])
    width = max(len(text) for text in result["texts"])
    head = " " * (width + 2) + "  ".join(f"{arm:>16}" for arm in arms)
    lines = []
    for i, image in enumerate(result["images"]):
        lines += [image, head]
        for j, text in enumerate(result["texts"]):
            cells = [
                (result["arms"][a]["similarity"][i][j], result["arms"][a]["probability"][i][j]) for a in arms
            ]
            lines.append(f"  {text:<{width}}" + "  ".join(f"{s:8.3f} {p:6.1%} " for s, p in cells))
    return lines
