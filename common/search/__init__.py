"""Which values each arm is trained with: grids and the oracles of keras-tuner. Sits above running."""
