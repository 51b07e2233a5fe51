"""From rows to Matplotlib figures: a function per kind, the choice of kinds, their cache. Imports verdicts, rows, space, data."""
