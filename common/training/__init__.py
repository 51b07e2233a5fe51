"""One trial, from its data to its outcome: the loop, checkpoints, scoring, what adapts Keras. Imports data, tasks, rows and
`Setting`."""
