"""Scripts are read without Keras."""

import subprocess
import sys

from conftest import PROJECT

from common.running import scripts


def test_a_script_is_read_without_importing_keras():
    code = (
        "import sys; from common.files import experiment_scripts; from common.running import scripts\n"
        "for path in experiment_scripts(): print(scripts.read_script(path).question)\n"
        "assert not {'keras', 'tensorflow', 'pandas', 'sklearn'} & set(sys.modules), 'slow import'\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=PROJECT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "does an L2 penalty help a small CNN?" in done.stdout


def test_placeholders_are_removed_after_reading_a_script():
    import keras

    scripts.read_script(PROJECT / "experiments" / "exp_03_l2.py")
    import common.models

    assert isinstance(keras, type(sys)) and keras.__version__
    assert common.models.small_cnn.__doc__


def test_importing_the_package_uses_the_real_keras():
    code = "import sys, experiments; print([type(finder).__name__ for finder in sys.meta_path])"
    done = subprocess.run([sys.executable, "-c", code], cwd=PROJECT, capture_output=True, text=True)
    assert done.returncode == 0
    assert "_Finder" not in done.stdout
