"""Trials to processes and machines: the plan, fingerprints, workers, devices, progress. Sits above training."""
