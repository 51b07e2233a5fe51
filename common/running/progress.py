"""What a run shows: a live line per running trial on a terminal, plain lines elsewhere, a line per finished trial."""

import sys
import time

from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from common.rows.schema import entry_of
from common.text import duration

PLAIN_SECONDS = 30
"""Between two reports on a running trial where the output is not a terminal."""


class Display:
    """Progress of one call; a context manager. `plain` leaves a terminal to what trials print."""

    def __init__(self, total: int = 0, *, plain: bool = False):
        terminal = sys.stdout.isatty()  # FORCE_COLOR makes no terminal of a file
        self.console = Console(highlight=False, soft_wrap=not terminal, force_terminal=terminal, force_jupyter=False)
        drawn = terminal and not self.console.is_dumb_terminal and not plain
        self.live = Live(console=self.console, auto_refresh=False, transient=True) if drawn else None
        self.total, self.done = total, 0
        self.started = self.said = time.perf_counter()

    def __enter__(self) -> "Display":
        if self.live:
            self.live.start()
        return self

    def __exit__(self, *_) -> None:
        if self.live:
            self.live.stop()

    def expect(self, count: int) -> None:
        """So many trials are to come."""
        self.total += count

    def say(self, text: str) -> None:
        """One line above whatever is live."""
        self.console.print(Text(text), soft_wrap=True)

    def update(self, running: list[tuple], waiting: int) -> None:
        """Redraw the live lines: (planned trial, last progress event) of each running trial."""
        if not self.live:
            self._say_seldom(running)
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

    def _say_seldom(self, running: list[tuple]) -> None:
        """A plain line per running trial, twice a minute."""
        if time.perf_counter() - self.said < PLAIN_SECONDS:
            return
        self.said = time.perf_counter()
        for trial, progress in running:
            self.say(", ".join(cell.plain for cell in self._cells(trial, progress) if cell.plain))

    @staticmethod
    def _cells(trial, progress: dict) -> list[Text]:
        name = Text(f"{trial.entry} seed {trial.seed}", style="bold", overflow="ellipsis", no_wrap=True)
        if "epoch" not in progress:
            return [name, Text(progress.get("stage", "starting"), no_wrap=True)]
        speed, done, accuracy = (progress[key] for key in ("images_per_second", "done", "accuracy"))
        return [
            name,
            Text(f"epoch {progress['epoch']}/{progress['epochs']}", no_wrap=True),
            Text(f"loss {progress['loss']:.3f}", no_wrap=True),
            Text("" if accuracy is None else f"acc {accuracy:.3f}", no_wrap=True),
            Text(f"{speed:,.0f} images/s" if speed else "", no_wrap=True),
            Text(f"{duration(progress['seconds'] * (1 - done) / done)} left" if done > 0 else "", no_wrap=True),
        ]

    def elsewhere(self, trial) -> None:
        """A line about a trial that another call has finished."""
        self.done += 1
        self.say(f"[{self.done}/{self.total}] {trial.entry} seed {trial.seed}: done by another call")

    def followed(self, trial) -> None:
        """A line about a trial whose row another machine writes."""
        self.done += 1
        self.say(f"{trial.entry} seed {trial.seed}: done, the chief writes its row")

    def finished(self, row: dict, metric: str) -> None:
        """A line about a trial that has its row; `metric` is the task's primary one."""
        self.done += 1
        name = f"[{self.done}/{self.total}] {entry_of(row)} seed {row['seed']}"
        if row["status"] in ("failed", "unavailable"):
            self.say(f"{name}: {row['status']}: {row['reason']}")
            return
        said = f"val {metric} {row[f'val_{metric}']:.4f}"
        if f"test_{metric}" in row:
            said = f"test {metric} {row[f'test_{metric}']:.4f}, {said.replace(f' {metric}', '')}"
        if row["status"] == "diverged":
            said = f"diverged: {row['reason']}"
        speed = f", {row['images_per_second']:,.0f} images/s" if row["images_per_second"] else ""
        self.say(f"{name}: {said}, {duration(row['total_seconds'])}{speed}")
