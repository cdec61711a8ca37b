"""Who fills the roles of `negclip synthesize`, opened, and the run of captions through them into a journal."""

from collections.abc import Callable, Iterator
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipelines.console import pick_device
from pipelines.synthesis import DETECTOR, Inputs, Request

if TYPE_CHECKING:
    from negclip_core.captions.journal import Journal
    from negclip_core.captions.language_models import Model
    from negclip_core.captions.synthesis import Roles, Task, Verifier

__all__ = ["Cast", "fill_journal", "journal_of", "open_cast"]

_GROUP = 2000  # tasks between commits where none is paid for


@dataclass(frozen=True)
class Cast:
    """The roles, what their answers depend on, and what each verifier is called on the command line."""

    roles: "Roles"
    settings: dict[str, Any]
    verifiers: dict[str, str]  # by what the journal knows it by


async def open_cast(inputs: Inputs, part: slice, stack: AsyncExitStack) -> Cast:
    """Load what the request names, for a part of the tasks, until the stack closes.

    Raises RequestError where a role cannot be filled.
    """
    from negclip_core.captions.annotated import LikelyProposer, RandomProposer
    from negclip_core.captions.language_models import ModelProposer, ModelWriter
    from negclip_core.captions.prompts import fingerprint
    from negclip_core.captions.synthesis import Roles
    from negclip_core.captions.writing import PhrasingWriter

    request, annotations = inputs.request, inputs.annotations
    words = annotations.names
    llm = await stack.enter_async_context(_model(request, request.llm, False)) if request.llm else None
    verifiers, called = {}, {}
    for name in request.verifiers:
        key, verifier = await _verifier(inputs, name, stack)
        verifiers[key], called[key] = verifier, name
    look = None
    if request.clip and request.max_fall is not None:
        from negclip_core.captions.second_look import ClipLook

        folder = request.images or Path()
        names = {task.image["file_name"]: None for _, task in _part(inputs, part)}
        look = ClipLook(
            request.clip, pick_device(request.device), folder, names, request.max_fall, request.quiet
        )
        await stack.enter_async_context(look)
    settings = inputs.settings()
    if request.paid:
        settings |= {"llm": llm.model} if llm else {}
        settings |= {"verifiers": list(verifiers), "prompts": fingerprint()}
    settings |= {"second_look": look.version} if look else {}
    roles = Roles(
        {
            "p1": ModelProposer(llm, words) if llm else LikelyProposer(annotations),
            "rand-p1": RandomProposer(annotations),
        },
        verifiers,
        ModelWriter(llm, words) if llm else PhrasingWriter(annotations),
        request.proposals,
        look,
    )
    return Cast(roles, settings, called)


async def _verifier(inputs: Inputs, name: str, stack: AsyncExitStack) -> tuple[str, "Verifier"]:
    """A verifier, and what the journal knows it by."""
    request = inputs.request
    if name == "instances":
        return name, inputs.annotations
    images = request.images or Path()
    if name == "vlm":
        from negclip_core.captions.language_models import ModelVerifier

        vlm = await stack.enter_async_context(_model(request, str(request.vlm), True))
        return f"vlm {vlm.model}", ModelVerifier(vlm, images)
    from negclip_core.captions.detecting import DetectorVerifier
    from pipelines.host import hush

    hush(request.quiet)
    detector = DetectorVerifier(
        name.removeprefix(DETECTOR),
        pick_device(request.device),
        images,
        request.threshold,
        request.concurrency,
    )
    await stack.enter_async_context(detector)
    return f"{DETECTOR}{detector.version}", detector


def _model(request: Request, name: str, sees: bool) -> "AbstractAsyncContextManager[Model]":
    """What --llm or --vlm names: an address, or a model of transformers by hub id or folder."""
    if name.startswith(("http://", "https://")):
        from negclip_core.captions.endpoint import Endpoint

        return Endpoint(name, request.concurrency)
    from negclip_core.captions.local_model import LocalModel
    from pipelines.host import hush

    hush(request.quiet)
    return LocalModel(name, sees, pick_device(request.device), request.concurrency)


def journal_of(request: Request, place: Path, cast: Cast) -> "Journal":
    """The journal at a place, begun or continued. Raises RequestError as `Journal`."""
    from negclip_core.captions.journal import Journal

    return Journal(place, cast.settings, paid=request.paid, group=1 if request.paid else _GROUP)


async def fill_journal(
    inputs: Inputs, cast: Cast, journal: "Journal", part: slice, done: Callable[[int], object]
) -> None:
    """Bring a part of the tasks to their ends. `done(1)` is called after each."""
    from negclip_core.captions.running import synthesize_all

    request = inputs.request
    tasks = _part(inputs, part)
    await synthesize_all(
        tasks, cast.roles, journal, request.seed, request.concurrency if request.waits else 1, done
    )


def _part(inputs: Inputs, part: slice) -> Iterator[tuple[int, "Task"]]:
    return islice(inputs.tasks(), part.start, part.stop)
