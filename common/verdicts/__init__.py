"""From rows to verdicts on claims: statistics, rules, the ledger. Imports rows and plain helpers, never Keras or TensorFlow."""
