"""`negclip synthesize`: captions that say what is absent, by the paper's pipelines P1, Rand-P1 and P2."""

import json
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from negclip_core.errors import RequestError
from pipelines.options import AsJson, Quiet

__all__ = ["register", "run"]


def _read(path: Path, keys: tuple[str, ...]) -> dict[str, Any]:
    try:
        document = json.loads(path.read_text("utf-8"))
        for key in keys:
            document[key]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise RequestError(
            f"{path}: expected a JSON object with {', '.join(keys)} ({type(error).__name__}: {error})"
        ) from error
    return dict(document)


def run(
    captions: Path, instances: Path, vqa: list[Path], pipeline: str, out: Path, seed: int
) -> dict[str, Any]:
    """Write the captions file `out`; see the command for the arguments.

    Raises:
        RequestError: an input is missing or of another form, or the pipeline is not known.
    """
    import numpy as np

    from negclip_core.captions.annotated import Annotations, LikelyProposer, RandomProposer
    from negclip_core.captions.questions import answered
    from negclip_core.captions.synthesis import PIPELINES, Proposer, Synthesis, from_proposals, from_questions
    from negclip_core.captions.writing import PhrasingWriter
    from negclip_core.files import atomic_write_text, make_output_folder, provenance, sha256_file

    if pipeline not in PIPELINES:
        raise RequestError(f"--pipeline {pipeline}: expected one of {', '.join(PIPELINES)}")
    chosen = {"both": ("p1", "p2"), "all": ("p1", "rand-p1", "p2")}.get(pipeline, (pipeline,))
    if "p2" in chosen and len(vqa) != 2:
        raise RequestError(
            "--vqa: P2 needs VQAv2's two files; give the option twice: questions, then annotations"
        )
    said = _read(captions, ("images", "annotations"))
    annotations = Annotations(_read(instances, ("images", "annotations", "categories")))
    images = {image["id"]: image for image in said["images"]}
    writer, result, rng = PhrasingWriter(annotations), Synthesis(), np.random.default_rng(seed)
    pairs = [(images[entry["image_id"]], entry["caption"]) for entry in said["annotations"]]
    proposers: dict[str, Callable[[Annotations], Proposer]] = {
        "p1": LikelyProposer,
        "rand-p1": RandomProposer,
    }
    for name in chosen:
        if name in proposers:
            from_proposals(name, pairs, proposers[name](annotations), annotations, writer, rng, result)
    if "p2" in chosen:
        texts: dict[int, list[str]] = defaultdict(list)
        for entry in said["annotations"]:
            texts[entry["image_id"]].append(entry["caption"])
        asked, answers = _read(vqa[0], ("questions",)), _read(vqa[1], ("annotations",))
        from_questions(answered(asked, answers, images, texts, annotations, rng), writer, rng, result)
    inputs = {path.name: sha256_file(path) for path in (captions, instances, *vqa)}
    info = {"pipeline": pipeline, "seed": seed, "inputs": inputs, "made_by": provenance()}
    make_output_folder(out.parent)
    # One line: a caption a line would be as long as the captions.
    atomic_write_text(out, json.dumps(result.document(said["images"], info), ensure_ascii=False))
    return {
        "read": result.read,
        "proposed": result.proposed,
        "verified_absent": result.verified_absent,
        "written": len(result.absent),
        "refuted": len(result.present),
        "rejected": dict(result.rejected),
        "out": str(out),
    }


def register(app: typer.Typer) -> None:
    """Add the verb to the command line."""

    @app.command()
    def synthesize(
        captions: Annotated[Path, typer.Option(help="COCO captions JSON.")],
        instances: Annotated[
            Path, typer.Option(help="COCO instances JSON of the same images, to verify against.")
        ],
        vqa: Annotated[
            list[Path] | None, typer.Option(help="For P2: VQAv2's questions; again for its annotations.")
        ] = None,
        pipeline: Annotated[str, typer.Option(help="p1, rand-p1, p2, both (P1 and P2) or all.")] = "both",
        out: Annotated[Path, typer.Option(help="The file to write.")] = Path("out/negated_captions.json"),
        seed: Annotated[int, typer.Option(help="Of what is proposed, and how it is said.")] = 0,
        as_json: AsJson = False,
        quiet: Quiet = False,
    ) -> None:
        """Write captions that say what is absent, verified in the image's annotations, to train on."""
        from pipelines.cli import show

        result = run(captions, instances, vqa or [], pipeline, out, seed)
        show(result, as_json, [f"{name}: {value}" for name, value in result.items()])
