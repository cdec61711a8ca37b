"""The pictures of a report: pairs with the judge's verdicts, and what each arm lost, as HTML with thumbnails inside."""

import base64
import io
from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw

from eval.arms import BLIND
from eval.data import Box
from eval.markup import e
from eval.registry import Record
from eval.regressions import Loss, losses, verdicts
from eval.runner import TaskResult
from negclip_core.images import open_image

__all__ = ["contact_sheet", "regressions", "thumbnail"]

_PAIRS, _LOSSES = 32, 8  # shown at most: pairs of a task, losses of an arm
_SHARP, _SIDE = 64, 192  # pixels: up to the first a picture is kept as it is, none is wider than the second
_GREEN, _RED = (26, 127, 55), (200, 30, 30)
_MARKS = {
    True: "<span class=good>✓ {}</span>",
    False: "<span class=bad>✗ {}</span>",
    None: "<span class=note>? {}</span>",
}


def contact_sheet(result: TaskResult, out: Path, room: int) -> str:
    """The first pairs in the order they were drawn in, which nobody picked; at most `room` pictures."""
    arms = list(result.records)
    drawn = [key for key, record in result.records[arms[0]].items() if "image" in record]
    items = drawn[: min(_PAIRS, room // len(arms))]
    if not items:
        return ""
    pairs = "".join(_pair(result, item, arms, out) for item in items)
    return f"<h3>The first {len(items)} pairs, and what the judge says of them</h3><div class=pairs>{pairs}</div>"


def regressions(result: TaskResult, out: Path, room: int) -> str:
    """For each arm the items where it lost what the first one had, the worst first; at most `room` pictures."""
    first, *others = [arm for arm in result.arms if arm not in BLIND] or [""]
    each = 1 if result.task.kind == "segmentation" else 2
    shown = min(_LOSSES, room // (each * len(others))) if others else 0
    blocks = ""
    for arm in others:
        lost = losses(result, first, arm)
        if not lost:
            blocks += f"<p class=note>{e(arm)}: worse than {e(first)} on none of {result.n} items.</p>"
            continue
        head = f"{e(arm)}: worse than {e(first)} on {len(lost)} of {result.n} items"
        worst = f"; the first {shown}" if len(lost) > shown else ""
        pairs = "".join(_lost(result, loss, first, arm, out) for loss in lost[:shown])
        blocks += f"<details open><summary>{head}{worst}</summary><div class=pairs>{pairs}</div></details>"
    return f"<h3>Losses, the worst first</h3>{blocks}" if blocks else ""


def _lost(result: TaskResult, loss: Loss, first: str, second: str, out: Path) -> str:
    if result.task.kind == "generation":
        return _pair(result, loss.item, [first, second], out)
    item = result.items[loss.item]
    change = f"<small>{e(result.main)} {loss.before:.2f} → {loss.after:.2f}</small>"
    words = "".join(f"<p>{line}</p>" for line in _words(item))
    return f"<div class=pair><h3>{e(loss.item)} {change}</h3>{_seen(result, item, first, second)}<div>{words}</div></div>"


def _words(item: Any) -> Iterator[str]:
    """What a task asks of an item: its fields that are texts."""
    for each in fields(item) if is_dataclass(item) else ():
        value = getattr(item, each.name)
        texts = [value] if isinstance(value, str) else value if isinstance(value, tuple) else []
        if each.name != "id" and texts and all(isinstance(text, str) for text in texts):
            yield f"<small>{e(each.name)}</small> {e(' · '.join(texts))}"


def _seen(result: TaskResult, item: Any, first: str, second: str) -> str:
    """The item's picture; where boxes are to be chosen from, the one that each arm took."""
    image = getattr(item, "image", None)
    if not isinstance(image, Path):
        return ""
    boxes = getattr(item, "boxes", ())
    if not boxes:
        return f"<figure>{thumbnail(image, '')}</figure>"
    figures = ""
    for arm, colour in ((first, _GREEN), (second, _RED)):
        box = boxes[result.records[arm][item.id]["picked"]]
        figures += f"<figure>{thumbnail(image, '', box, colour)}<figcaption>{e(arm)} picks this</figcaption></figure>"
    return figures


def _pair(result: TaskResult, item: str, arms: list[str], out: Path) -> str:
    records = {arm: result.records[arm][item] for arm in arms}
    first = records[arms[0]]
    shown = "".join(_figure(arm, record, out) for arm, record in records.items())
    return f"<div class=pair><h3>{e(first['prompt'])} <small>seed {first['seed']}</small></h3>{shown}</div>"


def _figure(arm: str, record: Record, out: Path) -> str:
    lines = "".join("<br>" + _MARKS[right].format(e(words)) for words, right in verdicts(record))
    picture = thumbnail(out / record["image"], record["text"])
    return f"<figure>{picture}<figcaption>{e(arm)}{lines}</figcaption></figure>"


def thumbnail(path: Path, words: str, box: Box | None = None, colour: tuple[int, int, int] = _GREEN) -> str:
    """An <img> that holds the picture, small; `box` (x, y, width, height in its pixels) is outlined."""
    # Saved anew, without the text of how it was made.
    picture, buffer = open_image(path), io.BytesIO()
    sharp = max(picture.size) <= _SHARP
    scale = min(1.0, _SIDE / max(picture.size))
    picture.thumbnail((_SIDE, _SIDE), Image.Resampling.LANCZOS)
    if box is not None:
        x, y, w, h = (side * scale for side in box)
        corners = (x, y, max(x + w - 1, x), max(y + h - 1, y))
        ImageDraw.Draw(picture).rectangle(corners, outline=colour, width=1 if sharp else 3)
    if sharp:
        picture.save(buffer, format="PNG", optimize=True)
    else:
        picture.save(buffer, format="JPEG", quality=80)
    content = base64.b64encode(buffer.getvalue()).decode()
    kind = ("png", " class=sharp") if sharp else ("jpeg", "")
    return f'<img{kind[1]} alt="{e(words)}" src="data:image/{kind[0]};base64,{content}">'
