"""`negclip score`: how well texts fit pictures, for several text encoders on the same image tower."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from negclip_core.errors import RequestError
from negclip_core.images import open_image
from negclip_core.language import parse
from negclip_core.models import Source, arms_of
from pipelines.console import pick_device
from pipelines.shelf import Shelf

if TYPE_CHECKING:
    from PIL.Image import Image

    from negclip_core.clip import Clip

__all__ = ["check_texts", "load_pair", "run", "similarities", "table"]


def run(
    images: list[str],
    texts: list[str],
    clip: str,
    arms: list[str],
    device: str,
) -> dict[str, Any]:
    """Cosines and, for each picture, a softmax over the texts.

    Args:
        clip: a CLIP with known arms (`negclip_core/models.json`) or any other, which has the arm `vanilla` alone.
        arms: names of those arms, or CLIPs by themselves.

    Raises:
        RequestError: a picture, a text, the CLIP or an arm is not what it should be.
    """
    if not texts:
        raise RequestError("no text: give one or more to compare the picture with")
    for position, text in enumerate(texts, 1):
        if not text.strip():
            raise RequestError(f"text {position} of {len(texts)} is blank: give a caption")
    pictures = [open_image(path) for path in images]
    clips = _load(clip, {arm: _source(arm, clip) for arm in arms}, pick_device(device), Shelf())
    check_texts(texts, clips)
    return {"arms": similarities(pictures, texts, clips), "images": images, "texts": texts}


def load_pair(clip: str, text_encoder: str | None, device: str, shelf: Shelf) -> "dict[str, Clip]":
    """What `vanilla` and `negationclip` score with: the CLIP, and the text encoder, or else the CLIP's own NegationCLIP.

    Args:
        device: torch's name of it.
        shelf: models that were loaded for earlier requests, and where those of this one are kept.

    Raises:
        RequestError: there is no such CLIP, no NegationCLIP is known for it, or the text encoder does not fit it.
    """
    known = arms_of(clip)
    if text_encoder is None:
        if "negationclip" not in known:
            raise RequestError(
                f"--clip {clip}: no NegationCLIP is known for it; name one with --text-encoder"
            )
        return _load(clip, known, device, shelf)
    vanilla = _load(clip, {"vanilla": known["vanilla"]}, device, shelf)
    # Of a hub repository that holds several, the one for this CLIP.
    own = next((source for source in known.values() if source.source == text_encoder), Source(text_encoder))
    try:
        pair = vanilla | _load(clip, {"negationclip": own}, device, shelf)
        expected, got = (each.config["embed_dim"] for each in pair.values())
        if expected != got:
            raise RequestError(f"{text_encoder}: expected text embeddings of {expected}, got {got}")
    except RequestError as error:
        raise RequestError(
            f"{error}; --text-encoder is scored beside --clip {clip}: name the CLIP there that it was tuned from"
        ) from error
    return pair


def check_texts(texts: Sequence[str], arms: "Mapping[str, Clip]") -> None:
    """Raise RequestError where a negation reaches into what an arm would cut of a text."""
    for text in texts:
        ends = {max(each.cue_span[1], each.scope_span[1]): each.cue for each in parse(text).negations}
        for clip in arms.values():
            if ends and _is_cut(text[: max(ends)], clip.tokenizer):
                context = clip.config["text_cfg"]["context_length"]
                raise RequestError(
                    f"the text that begins {text[:40]!r} has more tokens than the {context} that {clip.name} reads, and "
                    f"its negation {ends[max(ends)]!r} is in what would be cut; shorten it or move the negation forward"
                )


def similarities(
    pictures: "Sequence[Image]", texts: Sequence[str], arms: "Mapping[str, Clip]"
) -> dict[str, dict[str, Any]]:
    """For each arm, `similarity` and `probability`: a row for each picture, with a number for each text."""
    found = {}
    for arm, own in arms.items():
        similarity = own.encode_image(list(pictures)) @ own.encode_text(list(texts)).T
        probability = (own.logit_scale * similarity).softmax(dim=1)
        found[arm] = {"similarity": similarity.tolist(), "probability": probability.tolist()}
    return found


def _load(clip: str, arms: Mapping[str, Source], device: str, shelf: Shelf) -> "dict[str, Clip]":
    from negclip_core.clip import load_clip

    base = shelf.get(load_clip, arms_of(clip)["vanilla"].source, device=device)
    if "vision_cfg" not in base.config:
        raise RequestError(f"--clip {clip}: has no image tower; name a whole CLIP")
    return {
        arm: shelf.get(load_clip, source.source, source.architecture, device, base=base)
        for arm, source in arms.items()
    }


def _is_cut(text: str, tokenizer: Any) -> bool:
    """Whether a CLIP's tokenizer leaves out the end of a text."""
    from negclip_core.folder_tokenizer import FolderTokenizer

    if isinstance(tokenizer, FolderTokenizer):
        return bool(tokenizer.inner.backend_tokenizer.encode(text).overflowing)
    return len(tokenizer.encode(text)) + 2 > tokenizer.context_length  # with a start and an end


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
