"""The numbered experiments, one question each."""
