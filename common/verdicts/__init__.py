"""From rows to answers: intervals, claims judged, the ledger. Imports rows and plain helpers, never Keras or TensorFlow."""
