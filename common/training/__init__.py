"""One trial, from its data to its outcome: training loop, checkpoints, scoring, adapters for Keras. Imports data, tasks, rows and
`Setting`."""
