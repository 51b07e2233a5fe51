"""Hyperparameter search: grids and keras-tuner. May import running and what running may import."""
