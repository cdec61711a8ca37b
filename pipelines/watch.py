"""What one watches a training run by: `log.jsonl`, a plot of it, and TensorBoard where it is asked for."""

import json
from pathlib import Path
from typing import Any

from negclip_core.errors import RequestError
from negclip_core.files import atomic_path, atomic_write_text
from negclip_core.training import processes

__all__ = ["Watch"]

_SMOOTHED = 0.9  # share of the past in the running mean of the training loss


class Watch:
    """Keeps a run's log; of several processes the first does."""

    def __init__(self, out: Path, title: str, tensorboard: bool) -> None:
        """Raises RequestError where TensorBoard is asked for and not installed."""
        self.log, self.plot, self.title = out / "log.jsonl", out / "losses.png", title
        self.entries: list[dict[str, Any]] = []
        self.board = _Board(out / "tensorboard") if tensorboard and processes.is_first() else None

    def begun(self, step: int) -> None:
        """Forget what was logged after `step`: the run takes those steps again."""
        if not processes.is_first():
            return
        if self.log.exists():
            self.entries = [entry for entry in _whole_lines(self.log) if entry["step"] <= step]
            atomic_write_text(self.log, "".join(json.dumps(entry) + "\n" for entry in self.entries))
        if self.board:
            self.board.begin(step)

    def report(self, entry: dict[str, Any]) -> None:
        """Log what the training loop tells; draw the plot anew after an epoch."""
        if not processes.is_first():
            return
        self.entries.append(entry)
        with self.log.open("a", encoding="utf-8") as file:
            file.write(json.dumps(entry) + "\n")
        if self.board:
            self.board.add(entry)
        if "epoch" in entry:
            with atomic_path(self.plot) as path:
                self._chart().save(path)

    def _chart(self) -> Any:
        from pipelines.line_chart import Line, line_chart

        each, held = (
            [(entry["step"], entry[name]) for entry in self.entries if name in entry]
            for name in ("training_loss", "validation_loss")
        )
        mean = each[:1]
        for step, loss in each[1:]:
            mean.append((step, _SMOOTHED * mean[-1][1] + (1 - _SMOOTHED) * loss))
        return line_chart(
            self.title,
            "step",
            [
                Line("training, each step", "#bcd3ea", each),
                Line("training, running mean", "#2b6cb0", mean),
                Line("validation", "#c53030", held, dots=True),
            ],
        )


def _whole_lines(path: Path) -> list[dict[str, Any]]:
    """The entries of a log up to the first that a kill or a full disk cut."""
    found = []
    for line in path.read_bytes().splitlines(keepends=True):
        try:
            entry = json.loads(line)
        except ValueError:
            break
        if not line.endswith(b"\n") or not isinstance(entry, dict) or "step" not in entry:
            break
        found.append(entry)
    return found


class _Board:
    """The same figures as TensorBoard's event files."""

    def __init__(self, folder: Path) -> None:
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError as error:
            raise RequestError(
                "--tensorboard: needs TensorBoard; pip install 'negclip[tensorboard]'"
            ) from error
        self.folder, self.kind = folder, SummaryWriter

    def begin(self, step: int) -> None:
        # Of a run that was stopped, what it takes again is not shown twice.
        self.writer = self.kind(str(self.folder), purge_step=step + 1 if step else None)

    def add(self, entry: dict[str, Any]) -> None:
        for name, value in entry.items():
            if name not in ("epoch", "step"):
                self.writer.add_scalar(name, value, entry["step"])
        if "epoch" in entry:
            self.writer.flush()
