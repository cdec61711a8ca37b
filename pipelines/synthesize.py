"""`negclip synthesize`: captions that say what is absent, by the paper's pipelines P1, Rand-P1 and P2."""

import asyncio
from collections import defaultdict
from collections.abc import Iterator
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from negclip_core.errors import RequestError
from pipelines.console import pick_device, progress
from pipelines.options import AsJson, Device, Quiet

if TYPE_CHECKING:
    from negclip_core.captions.annotated import Annotations
    from negclip_core.captions.language_models import Model
    from negclip_core.captions.synthesis import Roles, Task

__all__ = ["register", "run"]

_GROUP = 2000  # tasks between commits where none is paid for
_SEVERAL = {"both": ("p1", "p2"), "all": ("p1", "rand-p1", "p2")}


@dataclass(frozen=True)
class _Request:
    captions: Path
    instances: Path | None
    vqa: list[Path]
    pipeline: str
    out: Path
    seed: int
    images: Path | None
    llm: str | None
    vlm: str | None
    proposals: int
    concurrency: int
    device: str
    quiet: bool

    @property
    def pipelines(self) -> tuple[str, ...]:
        return _SEVERAL.get(self.pipeline, (self.pipeline,))

    @property
    def paid(self) -> bool:
        return bool(self.llm or self.vlm)

    def check(self) -> None:
        """Raise RequestError where options do not go together."""
        from negclip_core.captions.output import check_suffix
        from negclip_core.captions.synthesis import PIPELINES

        if self.pipeline not in PIPELINES:
            raise RequestError(f"--pipeline {self.pipeline}: expected one of {', '.join(PIPELINES)}")
        if "p2" in self.pipelines and len(self.vqa) != 2:
            raise RequestError(
                "--vqa: P2 needs VQAv2's two files; give the option twice: questions, then annotations"
            )
        proposes = {"p1", "rand-p1"} & set(self.pipelines)
        if proposes and not self.instances and not self.vlm:
            raise RequestError("--instances or --vlm: one of them must look at the images; name one")
        if "p1" in proposes and not self.instances and not self.llm:
            raise RequestError("--instances or --llm: one of them must propose what may be absent; name one")
        if self.vlm and not self.images:
            raise RequestError("--images: --vlm looks at pictures; name their folder")
        if self.proposals < 1 or self.concurrency < 1:
            raise RequestError("--proposals and --concurrency: expected 1 or more")
        check_suffix(self.out)


def run(
    captions: Path,
    instances: Path | None,
    vqa: list[Path],
    pipeline: str,
    out: Path,
    seed: int,
    *,
    images: Path | None = None,
    llm: str | None = None,
    vlm: str | None = None,
    proposals: int = 1,
    concurrency: int = 64,
    device: str = "auto",
    quiet: bool = True,
) -> dict[str, Any]:
    """Write the captions file `out`, going on from the journal beside it; see the command for the arguments.

    Raises:
        RequestError: an input is missing or of another form, a role cannot be filled, or an endpoint takes no calls.
        UnfinishedWork: an endpoint does not answer any more, or a local model fails.
    """
    from negclip_core.captions.annotated import Annotations
    from negclip_core.captions.inputs import (
        read_answers,
        read_captions_file,
        read_instances,
        read_questions,
    )
    from negclip_core.captions.names import COCO
    from negclip_core.files import make_output_folder

    request = _Request(captions, instances, vqa, pipeline, out, seed, images, llm, vlm, proposals, concurrency,
                       device, quiet)  # fmt: skip
    request.check()
    said = read_captions_file(captions)
    held: dict[str, Any] = {
        "images": [],
        "annotations": [],
        "categories": [{"id": n, "name": n} for n in COCO],
    }
    if instances:
        held = read_instances(instances)
    asked = [read(path) for path, read in zip(vqa, (read_questions, read_answers), strict=False)]
    make_output_folder(out.parent)
    return asyncio.run(_run(request, said, Annotations(held), asked))


async def _run(
    request: _Request, said: dict[str, Any], annotations: "Annotations", asked: list[dict[str, Any]]
) -> dict[str, Any]:
    from negclip_core.captions.journal import Journal
    from negclip_core.captions.output import write_captions
    from negclip_core.captions.running import synthesize_all
    from negclip_core.files import provenance

    tasks = _tasks(request, said, annotations, asked)
    async with AsyncExitStack() as stack:
        llm, vlm = [
            await stack.enter_async_context(_model(request, name, sees)) if name else None
            for name, sees in ((request.llm, False), (request.vlm, True))
        ]
        roles, settings = _roles(request, annotations, llm, vlm), _settings(request, llm, vlm)
        place = request.out.with_name(f"{request.out.name}.journal")
        journal = Journal(place, settings, paid=request.paid, group=1 if request.paid else _GROUP)
        try:
            with progress(_count(request, said, asked), "captions", request.quiet) as bar:
                at_once = request.concurrency if request.paid else 1
                await synthesize_all(tasks, roles, journal, request.seed, at_once, bar.update)
            counts = journal.counts()
            write_captions(request.out, journal, said["images"], settings | {"made_by": provenance()})
        finally:
            journal.close()
    if not request.paid:  # what was paid for stays, so that the same command again costs nothing
        place.unlink()
    return counts | {"out": str(request.out)}


def _model(request: _Request, name: str, sees: bool) -> "AbstractAsyncContextManager[Model]":
    """What --llm or --vlm names: an address, or a model of transformers by hub id or folder."""
    if name.startswith(("http://", "https://")):
        from negclip_core.captions.endpoint import Endpoint

        return Endpoint(name, request.concurrency)
    from negclip_core.captions.local_model import LocalModel
    from pipelines.host import hush

    hush(request.quiet)
    return LocalModel(name, sees, pick_device(request.device), request.concurrency)


def _roles(
    request: _Request, annotations: "Annotations", llm: "Model | None", vlm: "Model | None"
) -> "Roles":
    from negclip_core.captions.annotated import LikelyProposer, RandomProposer
    from negclip_core.captions.language_models import ModelProposer, ModelVerifier, ModelWriter
    from negclip_core.captions.synthesis import Roles
    from negclip_core.captions.writing import PhrasingWriter

    names = annotations.names
    return Roles(
        {
            "p1": ModelProposer(llm, names) if llm else LikelyProposer(annotations),
            "rand-p1": RandomProposer(annotations),
        },
        ModelVerifier(vlm, request.images or Path()) if vlm else annotations,
        ModelWriter(llm, names) if llm else PhrasingWriter(annotations),
        request.proposals,
    )


def _settings(request: _Request, llm: "Model | None", vlm: "Model | None") -> dict[str, Any]:
    """What the captions depend on: not where a model is served, nor how many calls are open at once."""
    from negclip_core.captions.prompts import fingerprint
    from negclip_core.files import sha256_file

    paths = (request.captions, *((request.instances,) if request.instances else ()), *request.vqa)
    found: dict[str, Any] = {
        "pipeline": request.pipeline,
        "seed": request.seed,
        "proposals": request.proposals,
        "inputs": {path.name: sha256_file(path) for path in paths},
    }
    if request.paid:
        models = {"llm": llm, "vlm": vlm}
        found |= {name: model.model for name, model in models.items() if model}
        found["prompts"] = fingerprint()
    return found


def _tasks(
    request: _Request, said: dict[str, Any], annotations: "Annotations", asked: list[dict[str, Any]]
) -> Iterator["Task"]:
    """Every caption's, or question's, way through each pipeline, in the inputs' order."""
    from negclip_core.captions.questions import answered
    from negclip_core.captions.synthesis import Task

    images, texts = {image["id"]: image for image in said["images"]}, defaultdict(list)
    for entry in said["annotations"]:
        texts[entry["image_id"]].append(entry["caption"])
    for pipeline in request.pipelines:
        if pipeline == "p2":
            yield from answered(asked[0], asked[1], images, texts, annotations)
            continue
        for number, entry in enumerate(said["annotations"]):
            yield Task(pipeline, entry.get("id", number), images[entry["image_id"]], entry["caption"])


def _count(request: _Request, said: dict[str, Any], asked: list[dict[str, Any]]) -> int:
    questions = len(asked[0]["questions"]) if "p2" in request.pipelines else 0
    return questions + len(said["annotations"]) * len({"p1", "rand-p1"} & set(request.pipelines))


def register(app: typer.Typer) -> None:
    """Add the verb to the command line."""

    @app.command()
    def synthesize(
        captions: Annotated[Path, typer.Option(help="COCO captions JSON.")],
        instances: Annotated[
            Path | None,
            typer.Option(
                help="COCO instances JSON of the same images, to propose from without --llm and to verify with without --vlm."
            ),
        ] = None,
        vqa: Annotated[
            list[Path] | None, typer.Option(help="For P2: VQAv2's questions; again for its annotations.")
        ] = None,
        images: Annotated[Path | None, typer.Option(help="For --vlm: the folder of the pictures.")] = None,
        pipeline: Annotated[str, typer.Option(help="p1, rand-p1, p2, both (P1 and P2) or all.")] = "both",
        llm: Annotated[
            str | None,
            typer.Option(
                metavar="MODEL",
                help="Proposes and rewrites: a chat model by hub id or folder, or an OpenAI-compatible endpoint, such as http://127.0.0.1:8000/v1#llama-3-8b-instruct.",
            ),
        ] = None,
        vlm: Annotated[
            str | None,
            typer.Option(metavar="MODEL", help="Verifies: the same, of a model that sees pictures."),
        ] = None,
        proposals: Annotated[
            int, typer.Option(help="How many things are tried for a caption until one is absent.")
        ] = 4,
        concurrency: Annotated[
            int, typer.Option(help="Calls to endpoints, or captions of a local model, at once.")
        ] = 64,
        device: Device = "auto",
        out: Annotated[
            Path, typer.Option(help="The file to write: .json (COCO), .jsonl or .parquet.")
        ] = Path("out/negated_captions.json"),
        seed: Annotated[int, typer.Option(help="Of what is proposed, and how it is said.")] = 0,
        as_json: AsJson = False,
        quiet: Quiet = False,
    ) -> None:
        """Write captions that say what is absent from pictures, verified by a model or in annotations, to train on."""
        from pipelines.cli import show

        result = run(captions, instances, vqa or [], pipeline, out, seed, images=images, llm=llm, vlm=vlm,
                     proposals=proposals, concurrency=concurrency, device=device, quiet=quiet)  # fmt: skip
        show(result, as_json, [f"{name}: {value}" for name, value in result.items()])
