"""The command line: registers the verbs, prints their results, and turns errors into one line and an exit code."""

import asyncio
import errno
import json
import os
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any

import typer

import negclip_core
from negclip_core.errors import NegclipError, RequestError
from pipelines import audit, compare, convert, evaluate, push, segment, synthesize, train
from pipelines.console import clean_output, read_lines
from pipelines.endings import check_arguments, out_of_memory, stop_on_signals
from pipelines.miniature import cli as miniature
from pipelines.options import AsJson, Device, Gate, Lora, Model, Out, Quiet, Seed, TextEncoder
from pipelines.web import cli as web

__all__ = ["app", "main", "show"]

app = typer.Typer(
    help='CLIP that understands "no": pictures, scores and text encoders for prompts with a negation.',
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

_FULL = (
    "the GPU's memory is full; ask for less at once (-n, --batch, --batch-size, --height and --width), or give "
    "--device cpu"
)
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_REFUSED = (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENAMETOOLONG)


def show(document: Any, as_json: bool, lines: list[str]) -> None:
    """Print a verb's result: the JSON document, or lines for a person."""
    print(json.dumps(document, indent=2, ensure_ascii=False) if as_json else "\n".join(lines))


def _versions(asked: bool) -> None:
    if asked:
        from negclip_core.files import provenance

        own = provenance()
        names = ("python", "torch", "diffusers", "transformers", "open_clip_torch")
        print(f"negclip {own.get('negclip', '(not installed)')}")
        print(", ".join(f"{name.removesuffix('_torch')} {own[name]}" for name in names if name in own))
        raise typer.Exit


@app.callback(invoke_without_command=True)
def root(
    context: typer.Context,
    version: Annotated[
        bool, typer.Option("--version", is_eager=True, callback=_versions, help="Say which versions run.")
    ] = False,
) -> None:
    if context.invoked_subcommand is None:
        print(context.get_help())


@app.command()
def generate(
    prompts: Annotated[list[str], typer.Argument(metavar="PROMPT", help="What to draw.")],
    model: Model = "miniature",
    lora: Lora = None,
    text_encoder: TextEncoder = None,
    method: Annotated[
        str,
        typer.Option(
            help="encoder, rephrased, negative-prompt, both, nag, perp-neg or vsf: a file of integrations/methods."
        ),
    ] = "encoder",
    gate: Gate = True,
    compare: Annotated[
        bool, typer.Option("--compare", help="Draw the vanilla arm too, and a sheet of both.")
    ] = False,
    count: Annotated[int, typer.Option("-n", help="Pictures for each prompt, with seeds counting up.")] = 1,
    steps: Annotated[int | None, typer.Option(help="Denoising steps. [default: the model's]")] = None,
    guidance_scale: Annotated[float | None, typer.Option(help="Of guidance. [default: the model's]")] = None,
    height: Annotated[int | None, typer.Option(help="In pixels. [default: the model's]")] = None,
    width: Annotated[int | None, typer.Option(help="In pixels. [default: the model's]")] = None,
    attention: Annotated[str, typer.Option(help="auto, sdpa (PyTorch's own) or xformers (CUDA).")] = "auto",
    out: Out = Path("out"),
    seed: Seed = 0,
    device: Device = "auto",
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Draw pictures for prompts, obeying what they say is absent."""
    from pipelines.generate import Request, run

    with clean_output():
        result = run(
            Request(
                tuple(prompts), model, lora, text_encoder, method, gate, compare, count, steps, guidance_scale,
                height, width, attention, out, seed, device, quiet,
            )
        )  # fmt: skip
    sheet = [result["contact_sheet"]] if result["contact_sheet"] else []
    show(result, as_json, [image["path"] for image in result["images"]] + sheet)


@app.command()
def parse(
    texts: Annotated[
        list[str] | None,
        typer.Argument(metavar="TEXT", help="Or lines on standard input; blank ones are passed over."),
    ] = None,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Find the negations in texts: cue, scope, what is absent, the affirmative rest, the negative prompt."""
    from pipelines.parse import run

    records = run(texts or [line for line in read_lines() if line.strip()])
    lines = []
    for record in records:
        cues = ", ".join(f"{n['cue']!r} negates {n['scope']!r}" for n in record["negations"]) or "no negation"
        lines += [record["text"], f"  {cues}", f"  affirmative: {record['affirmative']}"]
        lines += [f"  negative prompt: {record['negative_prompt']}"] if record["negations"] else []
    show(records, as_json, lines)


@app.command()
def score(
    images: Annotated[list[Path], typer.Argument(metavar="IMAGE", help="Pictures.")],
    text: Annotated[list[str], typer.Option(help="A text to compare them with; repeat for more.")],
    clip: Annotated[
        str, typer.Option(help="miniature, ViT-B-32, ViT-L-14, ..., a hub id, a folder or a file.")
    ] = "miniature",
    arms: Annotated[
        str, typer.Option(help="Text encoders to compare, with commas; a name or a CLIP.")
    ] = "vanilla,negationclip",
    device: Device = "auto",
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Say how well texts fit pictures, for vanilla CLIP and NegationCLIP side by side."""
    from pipelines.score import run, table

    with clean_output():
        result = run(
            [str(image) for image in images], text, clip, [arm.strip() for arm in arms.split(",")], device
        )
    show(result, as_json, table(result))


@app.command()
def doctor(as_json: AsJson = False, quiet: Quiet = False) -> None:
    """Say what this machine has, and which features that turns on."""
    from pipelines.doctor import run, table

    with clean_output():
        result = run()
    show(result, as_json, table(result))


# Verbs with options enough for a file of their own; each registers itself.
for _verb in (segment, compare, audit, synthesize, train, convert, push, evaluate, miniature, web):
    _verb.register(app)


def main() -> None:
    """Run the command line and exit: 0 done, 1 failed part-way, 2 the request is wrong, 130 interrupted (or 128 and the signal)."""
    with stop_on_signals() as stopped:
        code = _main(stopped)
    sys.exit(code)


def _main(stopped: list[int]) -> int:
    try:
        _check_packages()
        check_arguments(sys.argv[1:])
        code = app(prog_name="negclip", standalone_mode=False) or 0
        if sys.stdout is not None:
            sys.stdout.flush()
    except NegclipError as error:
        if stopped:  # readers written in other languages make what they like of an interrupt
            print("negclip: interrupted", file=sys.stderr)
            return stopped[-1]
        print(f"negclip: {error}", file=sys.stderr)
        return error.exit_code
    except BrokenPipeError:  # who read the output has left, as `head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or Python complains when it flushes
        return 1
    except OSError as error:
        if error.errno not in (*_NO_ROOM, *_REFUSED):
            raise
        where = f"{error.filename}: " if error.filename else ""
        no_room = error.errno in _NO_ROOM
        todo = "make room, and repeat the command" if no_room else "name another file or folder"
        print(f"negclip: {where}{error.strerror}; {todo}", file=sys.stderr)
        return 1 if no_room else 2
    except (KeyboardInterrupt, asyncio.CancelledError, typer.Abort):
        code = 130
    except Exception as error:
        if type(error).__name__ == "OutOfMemoryError":  # torch's, which is not imported for this
            print(f"negclip: {_FULL}", file=sys.stderr)
            return 1
        # Usage errors, by what they can do: typer brings its own copy of click, whose place differs by version.
        if out_of_memory(error):
            print("negclip: the memory is full; free some, or ask for less at once", file=sys.stderr)
            return 1
        if not hasattr(error, "format_message"):
            raise
        verb = getattr(getattr(error, "ctx", None), "command_path", "negclip")
        print(f"negclip: {error.format_message()} (see {verb} --help)", file=sys.stderr)
        return 2
    if code == 130:  # typer turns an interrupt into this
        print("negclip: interrupted", file=sys.stderr)
        code = stopped[-1] if stopped else code
    return int(code)


def _check_packages() -> None:
    """The names are common ones: another package of that name must not stand in for ours."""
    home = Path(negclip_core.__file__).parent.parent
    for name in ("integrations", "eval", "pipelines"):
        found = find_spec(name)
        places = list(found.submodule_search_locations or []) if found else []
        if str(home / name) not in [str(Path(place)) for place in places]:
            raise RequestError(
                f"the package {name!r} was found at {places[0] if places else 'no place'}, not beside negclip_core in "
                f"{home}; remove the other one from PYTHONPATH, or run in an environment of negclip's own"
            )
