"""What the experiments on data and tasks train is what they say."""

import numpy as np
import pytest
