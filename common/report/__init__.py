"""The page, its Markdown version and tables for papers, all from rows. Imports figures, verdicts and rows."""
