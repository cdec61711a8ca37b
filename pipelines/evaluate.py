"""`negclip eval`: benchmarks under several arms, paired; a report with every figure's records."""

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from negclip_core.errors import RequestError
from pipelines.console import clean_output, pick_device, warn
from pipelines.options import AsJson, Device, Model, Out, Quiet, Seed

if TYPE_CHECKING:
    from eval.arms import ArmName
    from eval.options import Options
    from eval.registry import TaskInfo
    from eval.runner import Subject
    from pipelines.host import Host

__all__ = ["register", "run", "task_list"]

ARMS = "vanilla,negationclip,negationclip-no-gate"
_DRAWN = 2000  # pictures of the drawn world, for tasks that are given no data


def task_list() -> list[dict[str, str]]:
    """The heads of all tasks, as JSON."""
    from eval.registry import tasks

    return [
        {key: value for key, value in asdict(info).items() if key != "module"} for info in tasks().values()
    ]


def run(
    names: list[str], arms: str, clip: str, model: str, data: Path | None, out: Path, options: dict[str, Any],
    device: str, quiet: bool,
) -> tuple[dict[str, Any], list[str]]:  # fmt: skip
    """Run the tasks; returns the JSON document of the command line and its figures as lines.

    `options` are fields of `eval.options.Options`; those that are None keep their defaults, or the model's.

    Raises:
        RequestError: something about the request or the data is wrong.
    """
    from eval.arms import parse_arms
    from eval.registry import task
    from eval.report import text_table, write_report
    from eval.runner import run_task
    from negclip_core.files import make_output_folder

    infos = [task(name) for name in dict.fromkeys(names)]
    if not infos:
        raise RequestError("no task: name one or more, with commas (negclip eval --list)")
    wanted = parse_arms(arms)
    _check(options)
    device = pick_device(device)
    studio = _Studio(clip, model, device, wanted, options, make_output_folder(out), quiet)
    folder = data or studio.drawn_data()
    results = [
        run_task(info, studio.subjects(info), folder, out, studio.options(info), quiet) for info in infos
    ]
    report = write_report(results, studio.settings(data), out)
    document = {"tasks": {result.task.name: result.as_json() for result in results}, "report": str(report)}
    return document, [line for result in results for line in (*text_table(result), "")] + [str(report)]


def _check(options: dict[str, Any]) -> None:
    for name, least in (("seed", 0), ("limit", 1), ("pictures", 1), ("steps", 1), ("batch", 1)):
        value = options[name]
        if value is not None and value < least:
            raise RequestError(f"--{name} {value}: expected {least} or more")


class _Studio:
    """Loads what the tasks of a run need, each thing once."""

    def __init__(
        self,
        clip: str,
        model: str,
        device: str,
        arms: "list[ArmName]",
        options: dict[str, Any],
        out: Path,
        quiet: bool,
    ) -> None:
        self.clip, self.model, self.device = clip, model, device
        self.arms, self.given, self.out, self.quiet = arms, options, out, quiet
        self.made_with: dict[str, Any] = {}
        self._host: Host | None = None
        self._features: dict[Any, Any] = {}

    def drawn_data(self) -> Path:
        """The drawn world's held-out pictures, phrases and prompts, drawn here if they are not there yet."""
        from pipelines.miniature import export

        split = self.given["split"]
        folder = self.out / "drawn" / split
        if not (folder / export.LAST).exists():
            export.run(folder, _DRAWN, 0, split, self.quiet)
        return folder

    def host(self) -> "Host":
        from pipelines.host import load_host

        self._host = self._host or load_host(self.model, self.device)
        return self._host

    def options(self, info: "TaskInfo") -> "Options":
        from eval.options import Options

        given = {name: value for name, value in self.given.items() if value is not None}
        if info.kind == "generation":
            given.setdefault("steps", self.host().default("steps", "num_inference_steps"))
            given.setdefault("guidance_scale", self.host().default("guidance_scale", "guidance_scale"))
        return Options(**given)

    def subjects(self, info: "TaskInfo") -> "list[Subject]":
        return self._painters(info) if info.kind == "generation" else self._encoders()

    def _encoders(self) -> "list[Subject]":
        from eval.arms import VANILLA, clip_source, parse_arms, understands
        from eval.encoders import Encoder
        from eval.runner import Subject
        from negclip_core.clip import Clip, load_clip

        chosen = [arm for arm in self.arms if understands(arm)]
        if not chosen:
            raise RequestError("none of these arms is a CLIP that can be asked; add vanilla or negationclip")
        for arm in self.arms:
            if arm not in chosen:
                warn(f"arm {arm.name} is a way to draw; tasks of understanding leave it out", self.quiet)
        base = load_clip(clip_source(parse_arms(VANILLA)[0], self.clip).source, device=self.device)

        def subject(name: str, clip: Clip) -> Subject:
            return Subject(name, {"clip": clip.sha256}, lambda _: Encoder(name, clip, self._features))

        subjects = []
        for arm in chosen:
            source = clip_source(arm, self.clip)
            loaded = (
                base
                if arm.name == VANILLA
                else load_clip(source.source, source.architecture, self.device, base=base)
            )
            self.made_with[f"clip of {arm.name}"] = {"source": source.source, "sha256": loaded.sha256}
            subjects.append(subject(arm.name, loaded))
        return subjects

    def _painters(self, info: "TaskInfo") -> "list[Subject]":
        from eval.judges import load_judge
        from integrations.stable_diffusion import slot_of
        from negclip_core.clip import load_clip
        from negclip_core.files import sha256_folder
        from negclip_core.models import resolve, text_encoder_for

        host, judge_name = self.host(), self.options(info).judge
        judge = load_judge(judge_name)
        judged = {"source": judge_name, "sha256": sha256_folder(resolve(judge_name))}
        self.made_with |= {"model": {"source": self.model, "sha256": host.sha256}, "judge": judged}
        own = getattr(host.pipe, slot_of(host.pipe).module).config
        subjects = []
        for arm in self.arms:
            encoder = None
            if arm.swaps:
                source = arm.source or text_encoder_for(self.model, own.hidden_size, own.num_hidden_layers)
                encoder = load_clip(source.source, source.architecture, self.device)
                self.made_with[f"text encoder of {arm.name}"] = {
                    "source": source.source,
                    "sha256": encoder.sha256,
                }
            subjects.append(self._painter(arm, encoder, judge, judged["sha256"]))
        return subjects

    def _painter(self, name: "ArmName", encoder: Any, judge: Any, judge_sum: str) -> "Subject":
        from eval.generation import Painter
        from eval.runner import Subject
        from integrations.arms import Arm
        from integrations.methods import find_method

        host = self.host()
        arm = Arm(name.name, find_method(name.method), encoder, name.gate)
        arm.check(host.pipe)
        settings = {
            "model": host.sha256, "judge": judge_sum, "method": name.method, "gate": name.gate, "rest": name.rest,
            "text_encoder": encoder.sha256 if encoder else None, "device": self.device.split(":")[0],
        }  # fmt: skip

        def make(key: str) -> Painter:
            return Painter(name.name, arm, host.pipe, self.model, judge, self.out, f"images/{key}", name.rest)

        return Subject(name.name, settings, make)

    def settings(self, data: Path | None) -> dict[str, Any]:
        """What made the figures, for the report."""
        from negclip_core.files import provenance

        chosen = {name: value for name, value in self.given.items() if value is not None}
        drawn = str(data) if data else "the drawn world's held-out split"
        return {"data": drawn, "options": chosen, **self.made_with, "made_by": provenance()}


def register(app: typer.Typer) -> None:
    """Add the verb to the command line."""

    @app.command(name="eval")
    def evaluate(
        tasks: Annotated[str, typer.Argument(metavar="TASK[,TASK...]", help="Tasks, with commas.")] = "",
        listed: Annotated[bool, typer.Option("--list", help="Say which tasks there are.")] = False,
        arms: Annotated[
            str,
            typer.Option(
                help="vanilla, negationclip, negationclip-no-gate, negative-prompt, both, affirmative-rest, or "
                "NAME=ENCODER; the first is what drift is measured against."
            ),
        ] = ARMS,
        clip: Annotated[str, typer.Option(help="The CLIP that tasks of understanding ask.")] = "miniature",
        model: Model = "miniature",
        data: Annotated[
            Path | None, typer.Option(help="Folder of the benchmark's files. [default: the drawn world's]")
        ] = None,
        limit: Annotated[int | None, typer.Option(help="At most so many items a task.")] = None,
        split: Annotated[str, typer.Option(help="Of prompts: test or validation.")] = "test",
        pictures: Annotated[int, typer.Option(help="Pictures for each prompt, with seeds counting up.")] = 1,
        steps: Annotated[int | None, typer.Option(help="Denoising steps. [default: the model's]")] = None,
        guidance_scale: Annotated[
            float | None, typer.Option(help="Of guidance. [default: the model's]")
        ] = None,
        batch: Annotated[int, typer.Option(help="Pictures denoised at once.")] = 64,
        judge: Annotated[str, typer.Option(help="Who decides what pictures show.")] = "miniature/judge",
        out: Out = Path("out/eval"),
        seed: Seed = 0,
        device: Device = "auto",
        as_json: AsJson = False,
        quiet: Quiet = False,
    ) -> None:
        """Run benchmarks under several arms, in pairs, and write a report. A run that was cut off goes on."""
        from pipelines.cli import show

        if listed:
            heads = task_list()
            show(
                heads,
                as_json,
                [f"{head['name']:<18} {head['measures']}\n{'':19}needs {head['needs']}" for head in heads],
            )
            return
        options = {
            "seed": seed, "limit": limit, "split": split, "pictures": pictures, "steps": steps,
            "guidance_scale": guidance_scale, "batch": batch, "judge": judge,
        }  # fmt: skip
        names = [name.strip() for name in tasks.split(",") if name.strip()]
        with clean_output():
            document, lines = run(names, arms, clip, model, data, out, options, device, quiet)
        show(document, as_json, lines)
