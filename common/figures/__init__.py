"""Rows in, matplotlib figures out: one function per kind, which of them are drawn, their cache. Imports verdicts, rows, data."""
