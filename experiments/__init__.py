"""The numbered experiments, one question each."""

import sys

from common.running import scripts

# `python -m experiments.exp_03_l2` imports this package while argv[0] is still "-m". That process only plans and shows; it
# needs what the script declares, not Keras, which takes seconds to import and which the workers load for themselves.
if sys.argv[0] == "-m":
    scripts.use_placeholders()
