"""What the experiments on data and tasks train is what they say."""
