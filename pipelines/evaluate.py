"""`negclip eval`: benchmarks under several arms, paired; a report with every figure's records."""

import shlex
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from negclip_core.errors import RequestError
from pipelines.console import clean_output, pick_device
from pipelines.options import AsJson, Device, Lora, Model, Out, Quiet, Seed

if TYPE_CHECKING:
    from eval.arms import ArmName
    from eval.card import CardOf
    from pipelines.studio import Studio

__all__ = ["register", "run", "task_list"]

Judge = Annotated[
    str,
    typer.Option(
        help="Who decides what pictures show: vqa:MODEL or vqa:http://HOST:PORT/v1, detector:MODEL, labels:FILE, or "
        "a judge of miniature pictures. Of two, with a comma, the first decides, and how far they agree is told."
    ),
]

ARMS = "vanilla,negationclip,negationclip-no-gate"

Suite = Annotated[
    str | None,
    typer.Option(
        help="Instead of tasks, a suite of eval/suites or another file: tasks with their limits, and what a source says "
        "of them, held against what is found. paper: the paper's tables in miniature."
    ),
]
Label = Annotated[
    Path | None,
    typer.Option(
        help="Instead of tasks, the --out folder of an earlier run: serves a page on which to label its pictures by eye, "
        "and writes labels.json there. --limit is of pictures."
    ),
]
Arms = Annotated[
    str | None,
    typer.Option(
        help="vanilla, negationclip, negationclip-no-gate, affirmative-rest, a method of integrations/methods, "
        "or NAME=ENCODER, with -refined or -proposed behind a name for masks sharpened by Segment Anything or "
        "chosen from its proposals; blind-text, blind-constant and blind-random see no picture; "
        "a rival of eval/rivals on vanilla CLIP, or negationclip-RIVAL on NegationCLIP; the first is what drift "
        f"is measured against. [default: the suite's, or {ARMS}]"
    ),
]
Split = Annotated[
    str,
    typer.Option(
        help="Of the drawn world, and of files that have splits: test, validation, or as the file calls it."
    ),
]


def task_list() -> list[dict[str, str]]:
    """The heads of all tasks, as JSON."""
    from eval.registry import tasks

    return [
        {key: value for key, value in asdict(info).items() if key != "module"} for info in tasks().values()
    ]


def run(
    names: list[str], arms: str | None, clip: str, model: str, lora: str | None, data: Path | None, out: Path,
    options: dict[str, Any], device: str, quiet: bool, suite: str | None = None,
) -> tuple[dict[str, Any], list[str]]:  # fmt: skip
    """Run the tasks; returns the JSON document of the command line and its figures as lines.

    `options` are fields of `eval.options.Options`; those that are None keep their defaults, or the model's. `suite` names
    the tasks instead, with arms and options of its own where none are given.

    Raises:
        RequestError: something about the request or the data is wrong.
    """
    from eval.arms import parse_arms, refuse_missing
    from eval.registry import task
    from eval.report import suite_table, text_table, write_report
    from eval.runner import correct, run_task
    from eval.suite import held_against, load_suite
    from negclip_core.files import alone_in, make_output_folder

    if suite and names:
        raise RequestError(f"--suite {suite}: names its tasks itself; leave out {', '.join(names)}")
    chosen = load_suite(suite) if suite else None
    infos = [task(name) for name in dict.fromkeys(chosen.options if chosen else names)]
    if not infos:
        raise RequestError("no task: name one or more, with commas (negclip eval --list), or a --suite")
    arms = arms or (chosen.arms if chosen else ARMS)
    wanted = parse_arms(arms)
    for info in infos:
        refuse_missing(wanted, info.kind)
    if chosen:
        chosen.refuse_missing_arms({arm.name for arm in wanted})
    _check(options)
    from pipelines.studio import Studio

    device = pick_device(device)
    own = chosen.options if chosen else {}
    with alone_in(make_output_folder(out)):
        studio = Studio(clip, model, lora, device, wanted, options, out, quiet, own)
        folder = data or studio.drawn_data()
        results = [
            run_task(info, studio.subjects(info), folder, out, studio.options(info), quiet) for info in infos
        ]
        correct(results)
        for result in results:
            own_arms = [part for part in arms.split(",") if part.partition("=")[0].strip() in result.arms]
            result.command = _command(result.task.name, ",".join(own_arms), studio, data)
        found = held_against(chosen, results) if chosen else None
        report = write_report(results, studio.settings(data), out, found, _card(wanted, studio))
    document = {"tasks": {result.task.name: result.as_json() for result in results}, "report": str(report)}
    lines = [line for result in results for line in (*text_table(result), "")]
    if found:
        document["suite"] = found
        lines += [*suite_table(found), ""]
    return document, [*lines, str(report)]


def _command(task: str, arms: str, studio: "Studio", data: Path | None) -> str:
    """The command that prints a task's figures, whatever else was run with it."""
    from eval.options import Options

    # Steps and guidance scale have the model's for a default, so that naming them is never idle.
    usual = {
        "clip": "miniature",
        "model": "miniature",
        **asdict(Options()),
        "steps": None,
        "guidance_scale": None,
    }
    given = {
        "clip": studio.clip,
        "model": studio.model,
        "lora": studio.lora,
        "data": data,
        **studio.chosen(task),
    }
    words = ["negclip", "eval", task, "--arms", arms]
    for name, value in given.items():
        if value is not None and value != usual.get(name):
            words += [f"--{name.replace('_', '-')}", str(value)]
    return shlex.join(words)


def _card(arms: "list[ArmName]", studio: "Studio") -> "CardOf | None":
    """Of the first arm that brings a text encoder of its own, if one does."""
    from eval.card import card_of

    for arm in arms:
        for kind in ("clip of", "text encoder of"):
            made = studio.made_with.get(f"{kind} {arm.name}")
            if made and arm.swaps:
                base = studio.made_with.get("clip of vanilla", {}).get("source")
                return card_of(arm.name, made["source"], base)
    return None


def _check(options: dict[str, Any]) -> None:
    from eval.options import refuse

    for name, value in options.items():
        try:
            if value is not None:
                refuse(name, value)
        except ValueError as error:
            raise RequestError(f"--{name.replace('_', '-')} {value}: {error}") from error


def register(app: typer.Typer) -> None:
    """Add the verb to the command line."""

    @app.command(name="eval")
    def evaluate(
        tasks: Annotated[str, typer.Argument(metavar="TASK[,TASK...]", help="Tasks, with commas.")] = "",
        listed: Annotated[bool, typer.Option("--list", help="Say which tasks there are.")] = False,
        suite: Suite = None,
        label: Label = None,
        arms: Arms = None,
        clip: Annotated[str, typer.Option(help="The CLIP that tasks of understanding ask.")] = "miniature",
        model: Model = "miniature",
        lora: Lora = None,
        data: Annotated[
            Path | None, typer.Option(help="Folder of the benchmark's files. [default: the drawn world's]")
        ] = None,
        limit: Annotated[int | None, typer.Option(help="At most so many items a task.")] = None,
        split: Split = "test",
        pictures: Annotated[int, typer.Option(help="Pictures for each prompt, with seeds counting up.")] = 1,
        steps: Annotated[int | None, typer.Option(help="Denoising steps. [default: the model's]")] = None,
        guidance_scale: Annotated[
            float | None, typer.Option(help="Of guidance. [default: the model's]")
        ] = None,
        batch: Annotated[int, typer.Option(help="Pictures denoised at once.")] = 64,
        judge: Judge = "miniature/judge",
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
            lines = [f"{head['name']:<18} {head['measures']}\n{'':19}needs {head['needs']}" for head in heads]
            show(heads, as_json, lines)
            return
        options = {
            "seed": seed, "limit": limit, "split": split, "pictures": pictures, "steps": steps,
            "guidance_scale": guidance_scale, "batch": batch, "judge": judge,
        }  # fmt: skip
        names = [name.strip() for name in tasks.split(",") if name.strip()]
        with clean_output():
            if label is not None:
                from pipelines.label import serve

                if names or suite:
                    raise RequestError("--label: the pictures are drawn already; leave out tasks and --suite")
                _check(options)
                document, lines = serve(label, limit, seed, quiet)
            else:
                document, lines = run(
                    names, arms, clip, model, lora, data, out, options, device, quiet, suite
                )
        show(document, as_json, lines)
