"""What a worker process imports."""

import subprocess
import sys

import pytest
from conftest import PROJECT

from common.running import worker


def test_a_worker_does_not_import_packages_that_keras_can_do_without():
    code = (
        "import sys\n"
        "from common.running import worker\n"
        "with worker.hidden(worker.UNUSED):\n"
        "    from common.training import execution\n"
        "assert not set(worker.UNUSED) & {name.partition('.')[0] for name in sys.modules}\n"
        "import keras, matplotlib, pandas, sklearn\n"
        "assert keras.losses.CategoricalCrossentropy(from_logits=True)([[0.0, 1.0]], [[1.0, 2.0]]) > 0\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=PROJECT)
    assert done.returncode == 0, done.stderr


def test_packages_that_are_imported_already_are_not_hidden():
    with worker.hidden(("json", "a_package")):
        import json

        with pytest.raises(ImportError):
            import a_package  # noqa: F401
    assert json is sys.modules["json"]
    assert "a_package" not in sys.modules
