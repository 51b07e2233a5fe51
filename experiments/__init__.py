"""The numbered experiments, one question each."""

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # python -m experiments.exp_NN imports Keras before it starts the command line
