"""What `negclip synthesize` is asked for: its options, checked, and the captions and questions that its files hold."""

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from negclip_core.errors import RequestError

if TYPE_CHECKING:
    from negclip_core.captions.synthesis import Task

__all__ = ["DETECTOR", "Inputs", "Request"]

DETECTOR = "detector:"
_SEVERAL = {"both": ("p1", "p2"), "all": ("p1", "rand-p1", "p2")}
_ENGINES = ("local", "ray")


@dataclass(frozen=True)
class Request:
    """See the command's options."""

    captions: Path
    instances: Path | None
    vqa: list[Path]
    pipeline: str
    out: Path
    seed: int
    images: Path | None = None
    llm: str | None = None
    vlm: str | None = None
    verifier: tuple[str, ...] = ()
    threshold: float | None = None
    clip: str | None = None
    max_fall: float | None = None
    proposals: int = 1
    concurrency: int = 64
    engine: str = "local"
    shards: int | None = None
    device: str = "auto"
    quiet: bool = True

    @property
    def pipelines(self) -> tuple[str, ...]:
        """Those that run, in this order."""
        return _SEVERAL.get(self.pipeline, (self.pipeline,))

    @property
    def verifiers(self) -> tuple[str, ...]:
        """Those that are asked, in this order, which is that of what they cost: instances, detectors, "vlm"."""
        named = [name for name in dict.fromkeys(self.verifier) if name != "instances"]
        own = "instances" in self.verifier or not (named or self.vlm)
        return (*(["instances"] if own else []), *named, *(["vlm"] if self.vlm else []))

    @property
    def paid(self) -> bool:
        """Whether answers cost anything, so that each is to be kept."""
        return bool(self.llm or set(self.verifiers) - {"instances"})

    @property
    def waits(self) -> bool:
        """Whether several captions are to be under way at once."""
        return self.paid or bool(self.clip)

    def check(self) -> None:
        """Raise RequestError where options do not go together."""
        from negclip_core.captions.output import check_suffix
        from negclip_core.captions.synthesis import PIPELINES

        if self.pipeline not in PIPELINES:
            raise RequestError(f"--pipeline {self.pipeline}: expected one of {', '.join(PIPELINES)}")
        if self.engine not in _ENGINES:
            raise RequestError(f"--engine {self.engine}: expected one of {', '.join(_ENGINES)}")
        if "p2" in self.pipelines and len(self.vqa) != 2:
            raise RequestError(
                "--vqa: P2 needs VQAv2's two files; give the option twice: questions, then annotations"
            )
        proposes = {"p1", "rand-p1"} & set(self.pipelines)
        if proposes and not self.instances and "instances" in self.verifier:
            raise RequestError("--verifier instances: name their file with --instances")
        if proposes and not self.instances and "instances" in self.verifiers:
            raise RequestError(
                "--instances or --vlm: one of them must look at the images; name one, or a --verifier"
            )
        if "p1" in proposes and not self.instances and not self.llm:
            raise RequestError("--instances or --llm: one of them must propose what may be absent; name one")
        self._check_looking()
        if self.shards is not None and self.engine != "ray":
            raise RequestError(f"--shards {self.shards}: does nothing without --engine ray")
        if self.proposals < 1 or self.concurrency < 1 or (self.shards or 1) < 1:
            raise RequestError("--proposals, --concurrency and --shards: expected 1 or more")
        check_suffix(self.out)

    def _check_looking(self) -> None:
        """Raise RequestError where what looks at pictures is not as it should be."""
        for name in self.verifier:
            if name != "instances" and not name.startswith(DETECTOR):
                raise RequestError(
                    f"--verifier {name}: expected instances or {DETECTOR}MODEL, a hub id or a folder"
                )
        if self.threshold is not None and not 0 <= self.threshold <= 1:
            raise RequestError(f"--threshold {self.threshold:g}: expected a score from 0 to 1")
        detects = any(name.startswith(DETECTOR) for name in self.verifier)
        if self.threshold is not None and not detects:
            raise RequestError(
                f"--threshold {self.threshold:g}: does nothing without --verifier {DETECTOR}MODEL"
            )
        if self.clip and self.max_fall is None:
            raise RequestError("--clip: say with --max-fall by how much the cosine with the picture may fall")
        if self.max_fall is not None and (self.max_fall < 0 or not self.clip):
            raise RequestError(f"--max-fall {self.max_fall:g}: expected 0 or more, and --clip")
        options = {
            "--vlm": self.vlm,
            "--verifier": detects,
            "--clip": self.clip,
        }
        for option in (option for option, given in options.items() if given):
            if not self.images:
                raise RequestError(f"--images: {option} looks at pictures; name their folder")
            if not self.images.is_dir():
                raise RequestError(f"--images {self.images}: no such folder; name the one with the pictures")


class Inputs:
    """The captions, instances and questions of a request. Raises RequestError where a file is missing or of another form."""

    def __init__(self, request: Request) -> None:
        from negclip_core.captions.annotated import Annotations
        from negclip_core.captions.inputs import (
            read_answers,
            read_captions_file,
            read_instances,
            read_questions,
        )
        from negclip_core.captions.names import COCO

        self.request = request
        self.captions = read_captions_file(request.captions)
        held: dict[str, Any] = {"images": [], "annotations": []}
        held["categories"] = [{"id": name, "name": name} for name in COCO]
        if request.instances:
            held = read_instances(request.instances)
        readers = (read_questions, read_answers)
        self.asked = [read(path) for path, read in zip(request.vqa, readers, strict=False)]
        self.annotations = Annotations(held)

    def settings(self) -> dict[str, Any]:
        """What the captions depend on: not where a model is served, nor how many calls are open at once."""
        from negclip_core.files import sha256_file

        request = self.request
        # By role: two of the files may have the same name.
        files = {"captions": request.captions}
        files |= {"instances": request.instances} if request.instances else {}
        files |= dict(zip(("questions", "answers"), request.vqa, strict=False))
        return {
            "pipeline": request.pipeline,
            "seed": request.seed,
            "proposals": request.proposals,
            "inputs": {role: sha256_file(path) for role, path in files.items()},
        }

    def tasks(self) -> Iterator[tuple[int, "Task"]]:
        """Every caption's, or question's, way through each pipeline, numbered in the inputs' order."""
        return enumerate(self._tasks())

    def _tasks(self) -> Iterator["Task"]:
        from negclip_core.captions.questions import answered
        from negclip_core.captions.synthesis import Task

        images, texts = {image["id"]: image for image in self.captions["images"]}, defaultdict(list)
        for entry in self.captions["annotations"]:
            texts[entry["image_id"]].append(entry["caption"])
        for pipeline in self.request.pipelines:
            if pipeline == "p2":
                yield from answered(self.asked[0], self.asked[1], images, texts, self.annotations)
                continue
            for number, entry in enumerate(self.captions["annotations"]):
                yield Task(pipeline, entry.get("id", number), images[entry["image_id"]], entry["caption"])
