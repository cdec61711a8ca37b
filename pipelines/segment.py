"""`negclip segment`: masks of what expressions mean, and with `--compare` the vanilla arm's beside them."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from negclip_core.errors import RequestError
from negclip_core.files import check_output_folder, make_output_folder, provenance, sha256_file
from negclip_core.images import open_image
from negclip_core.models import resolve, segmenter_of, text_encoder_for
from pipelines.console import clean_output, pick_device, warn
from pipelines.options import AsJson, Device, Gate, Out, Quiet, TextEncoder
from pipelines.pictures import file_stems, write_png
from pipelines.shelf import Shelf

if TYPE_CHECKING:
    import numpy as np
    from PIL.Image import Image

    from negclip_core.clip import Clip
    from pipelines.segmenter import Segmenter

__all__ = ["Request", "register", "run"]

_EXAMPLE = "name what to find, such as 'the man without a hat'"


@dataclass(frozen=True)
class Request:
    """What was asked for; None leaves a setting to the model."""

    image: Path
    expressions: tuple[str, ...]
    model: str = "miniature"
    text_encoder: str | None = None
    gate: bool = True
    compare: bool = False
    refine: str | None = None
    sam: str | None = None
    threshold: float | None = None
    out: Path = Path("out")
    device: str = "auto"
    quiet: bool = False


@dataclass(frozen=True)
class _Mask:
    """One expression under one arm: its mask bool [h, w] at the size that was worked at, and how sure it is."""

    arm: str
    expression: str
    mask: "np.ndarray"
    score: float
    found: bool


@dataclass(frozen=True)
class _Job:
    """A request that has been found good, with what it needs."""

    request: Request
    image: "Image"  # whole
    small: "Image"  # what is worked at
    segmenter: "Segmenter"
    encoder: "Clip"
    sam: Any
    sam_record: dict[str, str | None]  # what it is called, and its file's sum

    @property
    def threshold(self) -> float:
        asked = self.request.threshold
        return self.segmenter.threshold if asked is None else asked


def run(request: Request, shelf: Shelf | None = None) -> dict[str, Any]:
    """Segment, write, and return the JSON document of the command line.

    Args:
        shelf: models that were loaded for earlier requests, and where those of this one are kept.

    Raises:
        RequestError: something about the request is wrong; nothing has been written.
    """
    _check(request)
    job = _prepare(request, shelf or Shelf())
    found = list(_masks(job))
    out = make_output_folder(request.out)
    stems = dict(zip(request.expressions, file_stems(request.expressions), strict=True))
    overlay = out / f"{request.image.stem}-overlay.png"
    rows = [_write(job, each, out / f"{request.image.stem}-{stems[each.expression]}-{each.arm}.png")
            for each in found]  # fmt: skip
    _write_overlay(job, found, overlay)
    return {
        "image": str(request.image),
        "model": request.model,
        "text_encoder": job.encoder.name,
        "masks": rows,
        "overlay": str(overlay),
    }


def _check(request: Request) -> None:
    """What can be refused before anything heavy is imported."""
    from integrations.referring import WAYS

    if not request.expressions or not all(each.strip() for each in request.expressions):
        raise RequestError(f"the expression is empty: {_EXAMPLE}")
    if len(set(request.expressions)) < len(request.expressions):
        raise RequestError("the same expression is given twice: name each once")
    if request.refine not in (None, *WAYS):
        raise RequestError(f"--refine {request.refine}: expected {' or '.join(WAYS)}")
    if request.sam is not None and request.refine is None:
        raise RequestError(f"--sam {request.sam}: does nothing without --refine {' or '.join(WAYS)}")
    if request.threshold is not None and not 0 < request.threshold < 1:
        raise RequestError(f"--threshold {request.threshold}: expected a number between 0 and 1")
    for name in (segmenter_of(request.model)[0], request.sam):
        if name is not None:
            resolve(name)
    check_output_folder(request.out)


def _prepare(request: Request, shelf: Shelf) -> _Job:
    """Load what is needed and check the rest of the request against it."""
    image = open_image(request.image)
    from integrations.clipseg import check_fit
    from negclip_core.clip import load_clip
    from pipelines.prompts import check_length
    from pipelines.segmenter import load_sam_model, load_segmenter, sam_file, shrunk

    clipseg, sam = segmenter_of(request.model)
    device = pick_device(request.device)
    segmenter = shelf.get(load_segmenter, clipseg, device, request.quiet)
    tokenizer, own = segmenter.processor.tokenizer, segmenter.model.config.text_config
    source = text_encoder_for(request.model, own.hidden_size, own.num_hidden_layers, request.text_encoder)
    encoder = shelf.get(load_clip, source.source, source.architecture, device)
    check_fit(segmenter.model, tokenizer, encoder)
    for expression in request.expressions:
        if (words := check_length(expression, tokenizer)) is not None:
            warn(f"the expression is longer than the {tokenizer.model_max_length} tokens that are read; "
                 f"cut: {words!r}", request.quiet)  # fmt: skip
    name = (request.sam or sam) if request.refine else None
    model = shelf.get(load_sam_model, name, device) if name else None
    record = {"sam": name, "sam_sha256": shelf.get(sha256_file, sam_file(name)) if name else None}
    return _Job(request, image, shrunk(image), segmenter, encoder, model, record)


def _masks(job: _Job) -> Iterator[_Mask]:
    """Every expression under every arm: `vanilla` first where both are compared."""
    from integrations.referring import Finder

    request, look = job.request, None
    for arm in ("vanilla", "negationclip") if request.compare else ("negationclip",):
        encoder = None if arm == "vanilla" else job.encoder
        finder = Finder(arm, job.segmenter, encoder, request.gate, job.sam, request.refine, job.encoder)
        look = look or finder.look(job.small)
        with finder.reading():
            found = finder.find(job.small, request.expressions, job.threshold, look)
        for expression, (mask, score) in zip(request.expressions, found, strict=True):
            yield _Mask(arm, expression, mask, score, bool(mask.any()))


def _write(job: _Job, found: _Mask, path: Path) -> dict[str, Any]:
    """Write a mask as PNG of the image's size, and return its row of the JSON document."""
    import numpy as np
    from PIL import Image
    from pycocotools import mask as coco

    small = Image.fromarray(found.mask.astype(np.uint8) * 255)
    whole = small if small.size == job.image.size else small.resize(job.image.size, Image.Resampling.BILINEAR)
    picture = whole.point(lambda value: 255 if value >= 128 else 0)
    box = picture.getbbox()
    mask = np.asarray(picture) > 0
    rle = coco.encode(np.asfortranarray(mask.astype(np.uint8)))
    row = {
        "path": str(path),
        "expression": found.expression,
        "arm": found.arm,
        "threshold": job.threshold,
        "area_fraction": float(mask.mean()),
        "box": [box[0], box[1], box[2] - box[0], box[3] - box[1]] if box else None,
        "score": found.score,
        "found": found.found,
    }
    request = job.request
    record = {
        **{name: value for name, value in row.items() if name != "path"},
        "prompt": found.expression,
        "image_sha256": sha256_file(request.image),
        "model": request.model,
        "model_sha256": job.segmenter.sha256,
        "text_encoder": job.encoder.name if found.arm != "vanilla" else None,
        "text_encoder_sha256": job.encoder.sha256 if found.arm != "vanilla" else None,
        "gate": request.gate,
        "refine": request.refine,
        **job.sam_record,
        "made_by": provenance(),
    }
    write_png(picture, path, record)
    return row | {"rle": {"size": rle["size"], "counts": rle["counts"].decode("ascii")}}


def _write_overlay(job: _Job, found: list[_Mask], path: Path) -> None:
    from pipelines.contact_sheet import Row, contact_sheet
    from pipelines.overlay import tinted

    arms = list(dict.fromkeys(each.arm for each in found))
    rows = []
    for expression in job.request.expressions:
        own = {each.arm: each for each in found if each.expression == expression}
        notes = [
            f"{arm}: {own[arm].score:.2f}" if own[arm].found else f"{arm}: nothing found" for arm in arms
        ]
        rows.append(Row(expression, ", ".join(notes), [tinted(job.small, own[arm].mask) for arm in arms]))
    refined = f", refined by {job.request.refine}" if job.request.refine else ""
    note = f"{job.request.image.name}, {job.request.model}, text encoder {job.encoder.name}{refined}"
    record = {"model": job.request.model, "arms": arms, "expressions": list(job.request.expressions),
              "made_by": provenance()}  # fmt: skip
    write_png(contact_sheet(rows, arms, note), path, record)


def register(app: typer.Typer) -> None:
    """Add the verb to the command line."""

    @app.command()
    def segment(
        image: Annotated[Path, typer.Argument(metavar="IMAGE", help="A picture.")],
        expressions: Annotated[list[str], typer.Argument(metavar="EXPRESSION", help="What to find in it.")],
        model: Annotated[
            str, typer.Option(help="A shipped name, a hub id or a folder: a CLIPSeg.")
        ] = "miniature",
        text_encoder: TextEncoder = None,
        gate: Gate = True,
        compare: Annotated[bool, typer.Option("--compare", help="Make vanilla's masks too.")] = False,
        refine: Annotated[
            str | None,
            typer.Option(help="sam: sharpen the heat map. sam-proposals: choose among what SAM proposes."),
        ] = None,
        sam: Annotated[
            str | None,
            typer.Option(
                help="A hub id, a folder or a checkpoint of Segment Anything. [default: the model's]"
            ),
        ] = None,
        threshold: Annotated[
            float | None, typer.Option(help="Heat from which a pixel is in the mask. [default: the model's]")
        ] = None,
        out: Out = Path("out"),
        device: Device = "auto",
        as_json: AsJson = False,
        quiet: Quiet = False,
    ) -> None:
        """Find what expressions mean in a picture, obeying what they say is absent; nothing, where nothing matches."""
        from pipelines.cli import show

        with clean_output():
            result = run(Request(image, tuple(expressions), model, text_encoder, gate, compare, refine, sam,
                                 threshold, out, device, quiet))  # fmt: skip
        lines = [
            each["path"] if each["found"] else f"{each['expression']}: nothing found ({each['arm']})"
            for each in result["masks"]
        ]
        show(result, as_json, [*lines, result["overlay"]])
