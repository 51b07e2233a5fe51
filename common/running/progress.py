"""Progress of a run: on a terminal a live line per running trial, else plain lines; and a line per finished trial."""

import sys
import time

from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from common.rows.schema import entry_of
from common.text import duration

PLAIN_SECONDS = 30
"""Seconds between two lines about a running trial if the output is not a terminal."""


class Display:
    """Prints the progress of a run; a context manager.

    Args:
        total: number of trials.
        plain: whether to draw no live lines, so that trials can print to the terminal.
    """

    def __init__(self, total: int = 0, *, plain: bool = False):
        terminal = sys.stdout.isatty()  # whatever FORCE_COLOR says
        self.console = Console(highlight=False, soft_wrap=not terminal, force_terminal=terminal, force_jupyter=False)
        is_live = terminal and not self.console.is_dumb_terminal and not plain
        self.live = Live(console=self.console, auto_refresh=False, transient=True) if is_live else None
        self.total, self.done = total, 0
        self.started = self.printed = time.perf_counter()

    def __enter__(self) -> "Display":
        if self.live:
            self.live.start()
        return self

    def __exit__(self, *_) -> None:
        if self.live:
            self.live.stop()

    def add_to_total(self, count: int) -> None:
        """Increase the number of trials."""
        self.total += count

    def print_line(self, text: str) -> None:
        """Print a line, above the live ones."""
        self.console.print(Text(text), soft_wrap=True)

    def update(self, running: list[tuple]) -> None:
        """Redraw the live lines.

        Args:
            running: planned trial and last progress event of each running trial.
        """
        if not self.live:
            self._print_plain(running)
            return
        table = Table.grid(padding=(0, 2))
        for trial, progress in running:
            table.add_row(*self._cells(trial, progress))
        share = self.done + sum(p.get("done", 0) for _, p in running)
        left = ""
        if share > 0.5:
            left = f", {duration((time.perf_counter() - self.started) * (self.total - share) / share)} left"
        table.add_row(Text(f"{self.done} of {self.total} done{left}", style="dim"))
        self.live.update(table, refresh=True)

    def _print_plain(self, running: list[tuple]) -> None:
        """Print a line per running trial, every `PLAIN_SECONDS`."""
        if time.perf_counter() - self.printed < PLAIN_SECONDS:
            return
        self.printed = time.perf_counter()
        for trial, progress in running:
            self.print_line(", ".join(cell.plain for cell in self._cells(trial, progress) if cell.plain))

    @staticmethod
    def _cells(trial, progress: dict) -> list[Text]:
        """The columns of a line about a running trial."""
        name = Text(f"{trial.entry} seed {trial.seed}", style="bold", overflow="ellipsis", no_wrap=True)
        node = Text(progress.get("node", ""), style="dim", no_wrap=True)
        if "epoch" not in progress:
            return [name, node, Text(progress.get("stage", "starting"), no_wrap=True)]
        speed, done, accuracy = (progress[key] for key in ("images_per_second", "done", "accuracy"))
        return [
            name,
            node,
            Text(f"epoch {progress['epoch']}/{progress['epochs']}", no_wrap=True),
            Text(f"loss {progress['loss']:.3f}", no_wrap=True),
            Text("" if accuracy is None else f"acc {accuracy:.3f}", no_wrap=True),
            Text(f"{speed:,.0f} images/s" if speed else "", no_wrap=True),
            Text(f"{duration(progress['seconds'] * (1 - done) / done)} left" if done > 0 else "", no_wrap=True),
        ]

    def done_by_other_run(self, trial) -> None:
        """Print a line about a trial that another run has finished."""
        self.done += 1
        self.print_line(f"[{self.done}/{self.total}] {trial.entry} seed {trial.seed}: done by another run")

    def finished(self, row: dict, metric: str) -> None:
        """Print a line about a finished trial.

        Args:
            metric: the task's primary metric.
        """
        self.done += 1
        name = f"[{self.done}/{self.total}] {entry_of(row)} seed {row['seed']}"
        if row["status"] in ("failed", "unavailable"):
            self.print_line(f"{name}: {row['status']}: {row['reason']}")
            return
        outcome = f"val {metric} {row[f'val_{metric}']:.4f}"
        if f"test_{metric}" in row:
            outcome = f"test {metric} {row[f'test_{metric}']:.4f}, {outcome.replace(f' {metric}', '')}"
        if row["status"] == "diverged":
            outcome = f"diverged: {row['reason']}"
        speed = f", {row['images_per_second']:,.0f} images/s" if row["images_per_second"] else ""
        self.print_line(f"{name}: {outcome}, {duration(row['total_seconds'])}{speed}")
