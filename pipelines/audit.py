"""`negclip audit`: how much negation a corpus of captions holds."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from negclip_core.errors import RequestError
from pipelines.console import progress
from pipelines.options import AsJson, Quiet

if TYPE_CHECKING:
    from negclip_core.captions.audit import Audit

__all__ = ["register", "run", "table"]

_SHOWN = 20  # cues


def run(paths: Sequence[Path], column: str | None, instances: Path | None, quiet: bool) -> dict[str, Any]:
    """Count; see the command for the arguments.

    Raises:
        RequestError: a file is missing, broken, without captions or of another form.
    """
    from negclip_core.captions.audit import Audit
    from negclip_core.captions.corpus import open_corpus
    from negclip_core.captions.inputs import read_instances
    from negclip_core.captions.misalignment import Misalignment

    sources = open_corpus(paths, column, images=instances is not None)
    audit = Audit()
    if instances is not None:
        audit.misalignment = Misalignment(read_instances(instances))
    rows = [source.rows for source in sources]
    total = None if None in rows else sum(filter(None, rows))
    with progress(total, "captions", quiet) as bar:
        for source in sources:
            for batch in source.batches():
                audit.add(batch)
                bar.update(batch.captions + batch.blank)
    if not audit.captions:
        raise RequestError(f"{', '.join(map(str, paths))}: no row holds a caption")
    return {"files": len(sources), "columns": sorted({s.column for s in sources}), **_document(audit)}


def _document(audit: "Audit") -> dict[str, Any]:
    from eval.statistics import share

    found, checked = share(audit.with_negation, audit.captions), audit.misalignment
    cues = dict(audit.cues.most_common())
    document: dict[str, Any] = {
        "captions": audit.captions,
        "blank": audit.blank,
        "with_negation": audit.with_negation,
        "share": found.value,
        "share_interval": {"low": found.low, "high": found.high},
        "words": audit.words,
        "negation_words": audit.negation_words,
        "word_share": audit.negation_words / audit.words,
        "cues": cues,
        "examples": [{"cue": cue, "caption": text} for cue in cues for text in audit.examples[cue]],
        "misalignment": None,
        "image_not_in_instances": checked.unknown if checked else None,
    }
    if checked and checked.checked:
        wrong = share(checked.contradicted, checked.checked)
        document["misalignment"] = {
            "share": wrong.value, "low": wrong.low, "high": wrong.high, "n": wrong.n,
            "contradicted": checked.contradicted,
        }  # fmt: skip
    return document


def table(result: dict[str, Any], checked: bool) -> list[str]:
    """The result in lines for a person; `checked`: with instances."""
    low, high = (100 * result["share_interval"][end] for end in ("low", "high"))
    lines = [
        f"files: {result['files']:,}, column: {', '.join(result['columns'])}",
        f"{result['captions']:,} captions, {result['with_negation']:,} with a negation: {100 * result['share']:.3g} % "
        f"(95 % interval {low:.3g} to {high:.3g} %)",
        f"{result['words']:,} words, {result['negation_words']:,} of them cues: {100 * result['word_share']:.3g} %",
    ]
    if wrong := result["misalignment"]:
        lines.append(
            f"{wrong['n']:,} negated captions checked, {wrong['contradicted']:,} contradicted by their picture: "
            f"{100 * wrong['share']:.3g} % (95 % interval {100 * wrong['low']:.3g} to {100 * wrong['high']:.3g} %)"
        )
    elif checked and not result["image_not_in_instances"]:
        lines.append("misalignment: no negated caption denies a category of the instances")
    elif not checked:
        lines.append("misalignment: give --instances, COCO instances of the pictures, to estimate it")
    if unknown := result["image_not_in_instances"]:
        lines.append(
            f"{unknown:,} negated captions not checked: their image_id or file_name is none of the instances', which may "
            "be of other pictures, or write it otherwise"
        )
    first: dict[str, str] = {}
    for example in result["examples"]:
        first.setdefault(example["cue"], example["caption"])
    shown = list(result["cues"].items())[:_SHOWN]
    lines += [""] * bool(shown)
    width = max((len(cue) for cue, _ in shown), default=0)
    for cue, count in shown:
        share = 100 * count / result["captions"]
        lines.append(f"{count:>12,}  {share:>7.3g} %  {cue:<{width}}  {first[cue]}")
    if more := len(result["cues"]) - len(shown):
        lines.append(f"and {more} cues more: see --json")
    return lines


def register(app: typer.Typer) -> None:
    """Add the verb to the command line."""

    @app.command()
    def audit(
        files: Annotated[
            list[Path],
            typer.Argument(
                metavar="FILE",
                help="Parquet or a folder of it, COCO JSON, JSONL, CSV, TSV, or text with a caption a line.",
            ),
        ],
        column: Annotated[
            str | None, typer.Option(help="Where the captions are. [default: caption, text, ...]")
        ] = None,
        instances: Annotated[
            Path | None, typer.Option(help="COCO instances JSON, to count what their picture contradicts.")
        ] = None,
        as_json: AsJson = False,
        quiet: Quiet = False,
    ) -> None:
        """Count how much negation a corpus of captions holds: shares, cues, examples."""
        from pipelines.cli import show

        result = run(files, column, instances, quiet)
        show(result, as_json, table(result, instances is not None))
