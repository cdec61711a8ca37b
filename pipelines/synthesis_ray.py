"""`--engine ray`: the captions by shards on Ray Data, one journal for each, in which a shard goes on whose worker died."""

import asyncio
import logging
from contextlib import AsyncExitStack, closing
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

from negclip_core.captions.parts import gather, spread
from negclip_core.errors import NegclipError, RequestError, UnfinishedWork, reason_of
from pipelines.console import progress
from pipelines.synthesis import Inputs, Request
from pipelines.synthesis_roles import fill_journal, journal_of, open_cast

__all__ = ["fill_on_ray"]


def fill_on_ray(inputs: Inputs, place: Path, folder: Path) -> dict[str, str]:
    """Bring all tasks to their ends in the journal at `place`, by way of parts in `folder`.

    Every worker must see the files of the request under the same paths. Returns what each verifier is called.

    Raises:
        RequestError: Ray is not installed, or what a run in one process raises.
        UnfinishedWork: likewise.
    """
    try:
        import ray
        import ray.data
    except ImportError as error:
        raise RequestError("--engine ray: needs Ray; pip install 'negclip[scale]'") from error
    request = inputs.request
    if not ray.is_initialized():
        try:
            ray.init(include_dashboard=False, logging_level="error", log_to_driver=False)
        except Exception as error:  # Ray raises many kinds
            raise UnfinishedWork(
                f"--engine ray: no cluster ({reason_of(error)}); start one with `ray start`, or try again"
            ) from error
    ray.data.DataContext.get_current().enable_progress_bars = False
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    total = sum(1 for _ in inputs.tasks())
    kind, size = _workers(request, ray.cluster_resources())
    count = max(1, min(request.shards or size, total))
    cuts = [total * number // count for number in range(count + 1)]
    parts = {folder / f"{n:05}.journal": slice(cuts[n], cuts[n + 1]) for n in range(count)}
    spread(place, parts)
    rows = [{"path": str(path.resolve()), "start": s.start, "stop": s.stop} for path, s in parts.items()]
    done = ray.data.from_items(rows, override_num_blocks=count).map(
        _Worker,
        fn_constructor_args=(_absolute(request),),
        compute=ray.data.ActorPoolStrategy(size=min(size, count)),
        **kind,
    )
    called: dict[str, str] = {}
    wrong: list[dict[str, Any]] = []
    with progress(total, "captions", request.quiet) as bar:
        for row in done.iter_rows():
            wrong += [row] if row["error"] else []
            called |= dict(zip(row["verifiers"], row["called"], strict=True))
            bar.update(row["stop"] - row["start"])
    gather(place, folder)
    if wrong:
        kind_of = RequestError if wrong[0]["code"] == RequestError.exit_code else UnfinishedWork
        raise kind_of(wrong[0]["error"])
    return called


def _workers(request: Request, resources: dict[str, float]) -> tuple[dict[str, int], int]:
    """What a worker takes, and how many of them there may be: one a GPU where there are any, else one a processor."""
    gpus = 0 if request.device == "cpu" else int(resources.get("GPU", 0))
    return ({"num_gpus": 1}, gpus) if gpus else ({"num_cpus": 1}, max(1, int(resources.get("CPU", 1))))


def _absolute(request: Request) -> Request:
    """The request as it means the same in another folder."""
    return replace(
        request,
        captions=request.captions.resolve(),
        instances=request.instances and request.instances.resolve(),
        vqa=[path.resolve() for path in request.vqa],
        images=request.images and request.images.resolve(),
        quiet=True,
    )


class _Worker:
    """Fills the journal of one shard after another. Errors that are one line for a person come back as a row."""

    def __init__(self, request: Request) -> None:
        self.request = request

    @cached_property
    def inputs(self) -> Inputs:
        return Inputs(self.request)

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        part = slice(row["start"], row["stop"])
        called, error, code = {}, "", 0
        try:
            called = asyncio.run(self._fill(Path(row["path"]), part))
        except NegclipError as found:
            error, code = str(found), found.exit_code
        return row | {"verifiers": [*called], "called": [*called.values()], "error": error, "code": code}

    async def _fill(self, place: Path, part: slice) -> dict[str, str]:
        async with AsyncExitStack() as stack:
            cast = await open_cast(self.inputs, part, stack)
            with closing(journal_of(self.request, place, cast)) as journal:
                await fill_journal(self.inputs, cast, journal, part, lambda _: None)
        return cast.verifiers
