"""`negclip synthesize`: captions that say what is absent, by the paper's pipelines P1, Rand-P1 and P2."""

import asyncio
from contextlib import AsyncExitStack, closing
from pathlib import Path
from typing import Annotated, Any

import typer

from pipelines.console import clean_output, progress
from pipelines.options import AsJson, Device, Quiet
from pipelines.synthesis import Inputs, Request

__all__ = ["register", "run"]

_Captions = Annotated[Path, typer.Option(help="COCO captions JSON.")]
_Instances = Annotated[
    Path | None,
    typer.Option(
        help="COCO instances JSON of the same images, to propose from without --llm and to verify with where nothing else does."
    ),
]
_Vqa = Annotated[
    list[Path] | None, typer.Option(help="For P2: VQAv2's questions; again for its annotations.")
]
_Images = Annotated[Path | None, typer.Option(help="The folder of the pictures, for whatever looks at them.")]
_Pipeline = Annotated[str, typer.Option(help="p1, rand-p1, p2, both (P1 and P2) or all.")]
_Llm = Annotated[
    str | None,
    typer.Option(
        metavar="MODEL",
        help="Proposes and rewrites: a chat model by hub id or folder, or an OpenAI-compatible endpoint, such as http://127.0.0.1:8000/v1#llama-3-8b-instruct.",
    ),
]
_Vlm = Annotated[
    str | None,
    typer.Option(metavar="MODEL", help="Verifies: the same, of a model that sees pictures."),
]
_Verifier = Annotated[
    list[str] | None,
    typer.Option(
        help="Verifies besides --vlm: instances, or detector:MODEL (OWL-ViT, OWLv2, Grounding DINO, by hub id or folder). Repeat for more: all must agree."
    ),
]
_Threshold = Annotated[
    float | None,
    typer.Option(
        help="For detectors: the score, 0 to 1, from which a box counts as the thing. [default: the authors': 0.1 of OWL, 0.25 of Grounding DINO]"
    ),
]
_Clip = Annotated[
    str | None,
    typer.Option(
        metavar="CLIP",
        help="A second look: reject captions that vanilla CLIP finds to fit the picture less than the original. miniature, ViT-B-32, ..., a hub id, a folder or a file.",
    ),
]
_MaxFall = Annotated[
    float | None,
    typer.Option(help="For --clip: by how much the cosine with the picture may fall."),
]
_Proposals = Annotated[int, typer.Option(help="How many things are tried for a caption until one is absent.")]
_Concurrency = Annotated[int, typer.Option(help="Calls to endpoints, or captions of a local model, at once.")]
_Engine = Annotated[str, typer.Option(help="local (this process) or ray (by shards on Ray Data).")]
_Shards = Annotated[
    int | None,
    typer.Option(help="For --engine ray. [default: the cluster's GPUs, or processors]"),
]
_Out = Annotated[Path, typer.Option(help="The file to write: .json (COCO), .jsonl or .parquet.")]
_Seed = Annotated[int, typer.Option(help="Of what is proposed, and how it is said.")]


def run(
    captions: Path,
    instances: Path | None,
    vqa: list[Path],
    pipeline: str,
    out: Path,
    seed: int,
    **options: Any,
) -> dict[str, Any]:
    """Write the captions file `out`, going on from the journal beside it; see the command for the arguments.

    Args:
        options: further fields of `Request`.

    Raises:
        RequestError: an input is missing or of another form, a role cannot be filled, or an endpoint takes no calls.
        UnfinishedWork: an endpoint does not answer any more, or a local model fails.
    """
    from negclip_core.captions.journal import Journal
    from negclip_core.captions.output import write_captions
    from negclip_core.captions.parts import gather, parts_of
    from negclip_core.files import make_output_folder, provenance

    request = Request(captions, instances, vqa, pipeline, out, seed, **options)
    request.check()
    inputs = Inputs(request)
    make_output_folder(out.parent)
    place = out.with_name(f"{out.name}.journal")
    with parts_of(place) as folder:
        gather(place, folder)
        if request.engine == "ray":
            from pipelines.synthesis_ray import fill_on_ray

            called = fill_on_ray(inputs, place, folder)
        else:
            called = asyncio.run(_fill(inputs, place))
    with closing(Journal(place, None, paid=request.paid, group=1)) as journal:
        counts = journal.counts()
        if len(called) > 1:
            said, disputed = journal.verified()
            counts |= {"verifiers": {called[who]: row for who, row in said.items()}, "disputed": disputed}
        info = {name: value for name, value in journal.settings().items() if name != "paid"}
        info["made_by"] = provenance()
        write_captions(out, journal, inputs.captions["images"], info)
    if not request.paid:  # what was paid for stays, so that the same command again costs nothing
        place.unlink()
    return counts | {"out": str(out)}


async def _fill(inputs: Inputs, place: Path) -> dict[str, str]:
    """Bring all tasks to their ends in the journal at `place`, in this process. Returns what each verifier is called."""
    from pipelines.synthesis_roles import fill_journal, journal_of, open_cast

    request, everything = inputs.request, slice(0, None)
    async with AsyncExitStack() as stack:
        cast = await open_cast(inputs, everything, stack)
        with closing(journal_of(request, place, cast)) as journal, progress(
            sum(1 for _ in inputs.tasks()), "captions", request.quiet
        ) as bar:  # fmt: skip
            await fill_journal(inputs, cast, journal, everything, bar.update)
    return cast.verifiers


def register(app: typer.Typer) -> None:
    """Add the verb to the command line."""

    @app.command()
    def synthesize(
        captions: _Captions,
        instances: _Instances = None,
        vqa: _Vqa = None,
        images: _Images = None,
        pipeline: _Pipeline = "both",
        llm: _Llm = None,
        vlm: _Vlm = None,
        verifier: _Verifier = None,
        threshold: _Threshold = None,
        clip: _Clip = None,
        max_fall: _MaxFall = None,
        proposals: _Proposals = 4,
        concurrency: _Concurrency = 64,
        engine: _Engine = "local",
        shards: _Shards = None,
        device: Device = "auto",
        out: _Out = Path("out/negated_captions.json"),
        seed: _Seed = 0,
        as_json: AsJson = False,
        quiet: Quiet = False,
    ) -> None:
        """Write captions that say what is absent from pictures, verified by a model or in annotations, to train on."""
        from pipelines.cli import show

        with clean_output():
            result = run(captions, instances, vqa or [], pipeline, out, seed, images=images, llm=llm, vlm=vlm,
                         verifier=tuple(verifier or ()), threshold=threshold, clip=clip, max_fall=max_fall,
                         proposals=proposals, concurrency=concurrency, engine=engine, shards=shards, device=device,
                         quiet=quiet)  # fmt: skip
        show(result, as_json, [f"{name}: {value}" for name, value in result.items()])
