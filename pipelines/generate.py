"""`negclip generate`: pictures for prompts, and with `--compare` the vanilla arm beside them, in pairs."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from negclip_core.errors import RequestError
from negclip_core.files import check_output_folder, make_output_folder, provenance
from negclip_core.models import architecture_file, resolve, text_encoder_for
from pipelines.console import pick_device, progress, warn
from pipelines.contact_sheet import Row, contact_sheet
from pipelines.host import Host, load_host
from pipelines.pictures import file_stems, write_png
from pipelines.prompts import check_length, unknown_words
from pipelines.shelf import Shelf

if TYPE_CHECKING:
    from PIL.Image import Image
    from torch import Tensor

    from integrations.arms import Arm

__all__ = ["Moment", "Request", "run"]

_LARGEST_SIDE = 8192  # pixels


@dataclass(frozen=True)
class Request:
    """What was asked for; None leaves a setting to the model."""

    prompts: tuple[str, ...]
    model: str = "miniature"
    lora: str | None = None
    text_encoder: str | None = None
    method: str = "encoder"
    gate: bool = True
    compare: bool = False
    count: int = 1
    steps: int | None = None
    guidance_scale: float | None = None
    height: int | None = None
    width: int | None = None
    attention: str = "auto"
    out: Path = Path("out")
    seed: int = 0
    device: str = "auto"
    quiet: bool = False


@dataclass(frozen=True)
class Moment:
    """A picture in the making, after a step of `steps`; `latents` [1, ...] are the pipeline's."""

    arm: str
    prompt: str
    seed: int
    step: int  # from 1
    steps: int
    pipe: Any
    latents: "Tensor"


@dataclass(frozen=True)
class _Job:
    """A request that has been found good: nothing in it can be refused any more."""

    request: Request
    host: Host
    arms: "list[Arm]"
    text_encoder: str | None
    settings: dict[str, Any]

    @property
    def seeds(self) -> range:
        return range(self.request.seed, self.request.seed + self.request.count)


def run(
    request: Request, shelf: Shelf | None = None, watch: Callable[[Moment], None] | None = None
) -> dict[str, Any]:
    """Draw, write, and return the JSON document of the command line.

    Args:
        shelf: models that were loaded for earlier requests, and where those of this one are kept.
        watch: called after each step of each picture. What it raises ends the drawing.

    Raises:
        RequestError: something about the request is wrong; nothing has been written.
    """
    _check(request)
    job = _prepare(request, shelf or Shelf())
    out = make_output_folder(request.out)
    stems = dict(zip(dict.fromkeys(request.prompts), file_stems(dict.fromkeys(request.prompts)), strict=True))
    images, drawn = _draw(job, out, stems, watch)
    sheet_path = None
    if request.compare:
        sheet_path = out / f"{next(iter(stems.values()))}-compare.png"
        _write_sheet(job, drawn, sheet_path)
    return {
        "model": request.model,
        "text_encoder": job.text_encoder,
        "images": images,
        "contact_sheet": str(sheet_path) if sheet_path else None,
    }


def _check(request: Request) -> None:
    """What can be refused before anything heavy is imported."""
    from integrations.methods import find_method

    for prompt in request.prompts:
        if not prompt.strip():
            raise RequestError("the prompt is empty: say what to draw, such as 'a street with no cars'")
    if not request.prompts:
        raise RequestError("no prompt: say what to draw, such as 'a street with no cars'")
    if request.count < 1:
        raise RequestError(f"-n {request.count}: expected 1 picture or more")
    if not 0 <= request.seed <= 2**63 - request.count:
        raise RequestError(f"--seed {request.seed}: expected a number from 0 to 2^63 - 1")
    if request.steps is not None and request.steps < 1:
        raise RequestError(f"--steps {request.steps}: expected 1 or more")
    if request.guidance_scale is not None and not 0 <= request.guidance_scale < 1000:
        raise RequestError(f"--guidance-scale {request.guidance_scale}: expected a number from 0 to 1000")
    swaps = find_method(request.method).SWAPS_TEXT_ENCODER
    if request.text_encoder is not None:
        if not swaps:
            raise RequestError(f"--method {request.method} swaps no text encoder: leave --text-encoder out")
        if architecture_file(request.text_encoder.partition(":")[0]) is None:
            resolve(request.text_encoder)
    for name in (request.model, request.lora):
        if name is not None:
            resolve(name)
    check_output_folder(request.out)


def _prepare(request: Request, shelf: Shelf) -> _Job:
    """Load what is needed and check the rest of the request against it."""
    from integrations.attention import choose_attention, use_attention
    from integrations.methods import find_method, has_guidance

    device = pick_device(request.device)
    attention = choose_attention(request.attention, device)
    host = shelf.get(load_host, request.model, device, request.quiet, request.lora)
    use_attention(host.pipe, attention, request.attention)
    arms, text_encoder = _arms(request, host, shelf)
    settings = _settings(request, host)
    if find_method(request.method).NEEDS_GUIDANCE and not has_guidance(host.pipe, settings["guidance_scale"]):
        warn(f"--method {request.method} does nothing here: it needs a host with guidance, at a scale above 1",
             request.quiet)  # fmt: skip
    for prompt in dict.fromkeys(request.prompts):
        cut = {
            check_length(text, host.pipe.tokenizer)
            for arm in arms
            for text in arm.method.arguments(prompt).values()
        }
        for words in cut - {None}:
            warn(f"the prompt is longer than the {host.pipe.tokenizer.model_max_length} tokens that are read; "
                 f"cut: {words!r}", request.quiet)  # fmt: skip
        _warn_of_unknown_words(prompt, host, request.quiet)
    return _Job(request, host, arms, text_encoder, settings)


def _arms(request: Request, host: Host, shelf: Shelf) -> "tuple[list[Arm], str | None]":
    from integrations.arms import Arm
    from integrations.methods import find_method
    from integrations.stable_diffusion import check_fit, slots_of
    from negclip_core.clip import load_clip

    vanilla = [Arm.vanilla()] if request.compare else []
    if not find_method(request.method).SWAPS_TEXT_ENCODER:
        arm = Arm.of(request.method, None)
        arm.check(host.pipe)
        return [*vanilla, arm], None
    own = getattr(host.pipe, slots_of(host.pipe)[0].module).config
    source = text_encoder_for(request.model, own.hidden_size, own.num_hidden_layers, request.text_encoder)
    arm = Arm.of(request.method, shelf.get(load_clip, source.source, source.architecture), request.gate)
    if arm.encoder is not None and (note := check_fit(host.pipe, arm.encoder).note):
        warn(note, request.quiet)
    return [*vanilla, arm], source.source


def _settings(request: Request, host: Host) -> dict[str, Any]:
    """The pipeline's own arguments. Raises RequestError where it cannot draw a picture of that size."""
    steps, scale = request.steps, request.guidance_scale
    settings: dict[str, Any] = {
        "num_inference_steps": steps if steps is not None else host.default("steps", "num_inference_steps"),
        "guidance_scale": scale if scale is not None else host.default("guidance_scale", "guidance_scale"),
    }
    most = host.pipe.scheduler.config.get("num_train_timesteps", 1000)
    if settings["num_inference_steps"] > most:
        raise RequestError(f"--steps {steps}: {request.model} was trained with {most}, expected no more")
    for name, value in (("height", request.height), ("width", request.width)):
        if value is None:
            continue
        step = host.pipe.vae_scale_factor
        if value % step or not step <= value <= _LARGEST_SIDE:
            raise RequestError(
                f"--{name} {value}: expected a multiple of {step} up to {_LARGEST_SIDE} for {request.model}"
            )
        settings[name] = value
    return settings


def _warn_of_unknown_words(prompt: str, host: Host, quiet: bool) -> None:
    unknown = unknown_words(prompt, host.about["vocabulary"]) if "vocabulary" in host.about else []
    if unknown:
        knows = host.about.get("knows", f"{len(host.about['vocabulary'])} words")
        named = host.about.get("name", host.name)
        warn(f"{named} knows {knows}; it has never seen {', '.join(unknown)}", quiet)


def _draw(
    job: _Job, out: Path, stems: dict[str, str], watch: Callable[[Moment], None] | None
) -> "tuple[list[dict[str, Any]], dict[tuple[str, int, str], Image]]":
    images, drawn = [], {}
    steps = job.settings["num_inference_steps"]
    total = len(job.arms) * len(stems) * len(job.seeds) * steps
    with progress(total, "drawing", job.request.quiet) as bar:

        def advance(pipe: Any, step: int, timestep: Any, tensors: dict[str, Any]) -> dict[str, Any]:
            bar.update(1)
            if watch is not None:
                watch(Moment(arm.name, prompt, seed, step + 1, steps, pipe, tensors["latents"]))
            return {}

        for arm in job.arms:
            with arm.applied(job.host.pipe, **job.settings, callback_on_step_end=advance) as draw:
                for prompt, stem in stems.items():
                    for seed in job.seeds:
                        start = time.perf_counter()
                        # One at a time: a batch of another size may round differently.
                        image = draw([prompt], [seed])[0]
                        if job.request.compare:  # for the sheet
                            drawn[prompt, seed, arm.name] = image
                        seconds = round(time.perf_counter() - start, 3)
                        path = out / f"{stem}-seed{seed}-{arm.name}.png"
                        write_png(image, path, _record(job, arm, prompt, seed, image.size))
                        images.append({"path": str(path), "prompt": prompt, "seed": seed, "arm": arm.name,
                                       "seconds": seconds})  # fmt: skip
    return images, drawn


def _record(job: _Job, arm: "Arm", prompt: str, seed: int, size: tuple[int, int]) -> dict[str, Any]:
    """What made a picture; nothing in it changes from run to run."""
    swapped = arm.encoder is not None
    return {
        "prompt": prompt,
        "seed": seed,
        "arm": arm.name,
        "arguments": arm.method.arguments(prompt),
        "gate": arm.gate if swapped else None,
        "model": job.request.model,
        "lora": job.request.lora,
        "model_sha256": job.host.sha256,
        "text_encoder": job.text_encoder if swapped else None,
        "text_encoder_sha256": arm.encoder.sha256 if arm.encoder else None,
        "steps": job.settings["num_inference_steps"],
        "guidance_scale": job.settings["guidance_scale"],
        "width": size[0],
        "height": size[1],
        "scheduler": type(job.host.pipe.scheduler).__name__,
        "device": job.host.pipe.device.type,
        "made_by": provenance(),
    }


def _write_sheet(job: _Job, drawn: "dict[tuple[str, int, str], Image]", path: Path) -> None:
    names = [arm.name for arm in job.arms]
    rows = [
        Row(prompt, f"seed {seed}", [drawn[prompt, seed, name] for name in names])
        for prompt in dict.fromkeys(job.request.prompts)
        for seed in job.seeds
    ]
    gate = "" if job.request.gate else ", no gate"
    encoder = f", text encoder {job.text_encoder}{gate}" if job.text_encoder else ""
    settings = f"{job.settings['num_inference_steps']} steps, guidance {job.settings['guidance_scale']:g}"
    lora = f" with {job.request.lora}" if job.request.lora else ""
    note = f"{job.request.model}{lora}{encoder}, {settings}"
    record = {"model": job.request.model, "text_encoder": job.text_encoder, "arms": names,
              "prompts": list(job.request.prompts), "seeds": list(job.seeds), "made_by": provenance()}  # fmt: skip
    write_png(contact_sheet(rows, names, note), path, record)
