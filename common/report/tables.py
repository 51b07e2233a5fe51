"""The summary of an experiment as CSV and LaTeX, and texts as LaTeX and Markdown show them."""

import html
import math
import re

import pandas as pd

from common.rows.table import Table

MARKS = re.compile(r"[\\`*|\[\]~]|(?<![^\W_])_|_(?![^\W_])")
"""What Markdown would not print as it is: not `_` within a word."""


def to_csv(table: Table, summary: pd.DataFrame) -> str:
    """The summary as CSV."""
    return summary.rename(columns={"score": table.primary.column}).to_csv(index=False, float_format="%.6g")


def to_tex(table: Table, summary: pd.DataFrame) -> str:
    """The summary as a LaTeX table, which needs the package booktabs."""
    heading = rf"arm & seeds & {escaped(table.primary.label())} & difference \\"
    lines = [r"\begin{tabular}{lrrr}", r"\toprule", heading, r"\midrule"]
    for row in summary.itertuples():
        score = f"{row.score:.4f}" + (f" $\\pm$ {row.deviation:.4f}" if not math.isnan(row.deviation) else "")
        difference = ""
        if not math.isnan(row.difference):
            difference = f"{row.difference:+.4f} [{row.difference_low:+.4f}, {row.difference_high:+.4f}]"
        lines.append(rf"{escaped(row.arm)} & {counted(row)} & {score} & {difference} \\")
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}", ""])


def counted(row) -> str:
    """How many seeds of an arm a row of the summary is of, and how many of them diverged."""
    return f"{row.seeds} ({row.diverged} diverged)" if row.diverged else str(row.seeds)


def cell(text: str) -> str:
    """A text as Markdown shows it in a table, on one line."""
    marked = MARKS.sub(r"\\\g<0>", html.escape(text, quote=False))
    return marked.replace("$", "&#36;").replace("\n", " ")


def escaped(text: str) -> str:
    """A text as LaTeX shows it, also at the start of a line: after `\\\\`, a star or a bracket would belong to that."""
    named = {"~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "\\": r"\textbackslash{}", "*": "{*}", "[": "{[}"}
    return "".join(f"\\{c}" if c in "&%$#_{}" else named.get(c, c) for c in text)
