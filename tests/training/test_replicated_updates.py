"""Updates on several replicas equal a NumPy reference and those on one replica, and are resumed exactly."""

import json
import os
import subprocess
import sys

import gradients
import numpy as np
import pytest
from conftest import PROJECT

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module", params=[2, 4])
def shared_gradients(request, tmp_path_factory):
    """The JSON that `gradients.py` writes with 2 or 4 replicas."""
    output = tmp_path_factory.mktemp("gradients") / "out.json"
    command = [sys.executable, PROJECT / "tests" / "gradients.py", output, str(request.param)]
    environment = {**os.environ, "PYTHONPATH": str(PROJECT), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, timeout=500, cwd=PROJECT, env=environment)
    assert done.returncode == 0, done.stdout + done.stderr
    return json.loads(output.read_text())


def two_updates(clip, decay, extra):
    """Reference in NumPy: changes of kernel and bias, and gradient norms, in two updates of softmax regression by SGD."""
    split = gradients.examples()
    x, y = split.images.reshape(len(split), -1) / 256, np.eye(gradients.CLASSES)[split.labels]
    first = [gradients.first_kernel(), np.zeros(gradients.CLASSES)]
    weights, average, norms = first, None, []
    for _ in range(2):
        z = x @ weights[0] + weights[1]
        q = np.exp(z) / np.exp(z).sum(1, keepdims=True)
        d = (q - y + 2 * gradients.ACTIVITIES * z) / len(x)
        changes = [x.T @ d + 2 * gradients.WEIGHTS * weights[0], d.sum(0)]
        norms.append(np.sqrt(sum((g**2).sum() for g in changes)))
        if "clipnorm" in clip:
            changes = [g * min(1, clip["clipnorm"] / np.linalg.norm(g)) for g in changes]
        elif "global_clipnorm" in clip:
            changes = [g * min(1, clip["global_clipnorm"] / norms[-1]) for g in changes]
        elif "clipvalue" in clip:
            changes = [np.clip(g, -clip["clipvalue"], clip["clipvalue"]) for g in changes]
        shrunk = [w * (1 - gradients.RATE * decay.get("weight_decay", 0)) for w in weights]
        weights = [w - gradients.RATE * g for w, g in zip(shrunk, changes, strict=True)]
        if "use_ema" in extra:
            weights = average = weights if average is None else [(w + a) / 2 for w, a in zip(weights, average, strict=True)]
    return [after - before for before, after in zip(first, weights, strict=True)], norms


def test_updates_equal_a_numpy_reference_for_every_pair_of_options(shared_gradients):
    results = shared_gradients["by hand"]
    half = [options for options in gradients.BY_HAND if options[0] == "mixed_float16"]
    for options, result in zip(gradients.BY_HAND if len(results) == 12 else half, results, strict=True):
        precision, *others = options
        changes, norms = two_updates(*others)
        tolerance = {"float32": 1e-5, "mixed_bfloat16": 3e-2, "mixed_float16": 3e-3}[precision]
        assert result["norms"] == pytest.approx(norms, rel=tolerance), options
        for change, expected in zip(result["change"], changes, strict=True):
            assert np.allclose(change, expected, atol=tolerance * np.abs(expected).max()), options


@pytest.mark.parametrize("shared_gradients", [2], indirect=True)
def test_optimizers_with_loss_scaling_make_the_same_updates_on_two_replicas_as_on_one(shared_gradients):
    """If gradients were summed twice, the updates of SGD would be twice as large."""
    assert {"Adam", "Muon", "MultiOptimizer", "Nadam"} <= set(shared_gradients["optimizers"])
    for name, (alone, shared) in shared_gradients["optimizers"].items():
        for one, other in zip(alone, shared, strict=True):
            assert np.abs(one).max() > 0, name
            assert np.allclose(one, other, atol=1e-3 * np.abs(one).max()), name


@pytest.mark.parametrize("shared_gradients", [2], indirect=True)
def test_two_replicas_resume_bit_for_bit_and_refuse_a_wrong_number_of_losses(shared_gradients):
    result = shared_gradients["resumed"]
    whole, killed = result["whole"], result["killed"]
    assert (whole.pop("resumes"), killed.pop("resumes")) == (0, 1)
    assert (whole.pop("updates"), killed.pop("updates")) == (15, 9)  # of 3 epochs; those after the sixth
    assert whole == killed
    assert len(set(whole["norms"])) == 15
    assert result["uneven"].endswith("Received: 4 for 3 images")  # of a batch of 7, the second replica's part
