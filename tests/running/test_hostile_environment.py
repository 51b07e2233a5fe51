"""Rows and figures are equal in an empty environment and in one whose variables and settings all interfere."""

import json
import os
import subprocess
import sys

import pytest
from conftest import PROJECT
from survival import SCRIPT, files_in, reproducible, write

from common.rows import store

pytestmark = pytest.mark.slow


def hostile(folder):
    """Environment variables, with files in the folder, that would change results or figures if they had an effect."""
    home, evil = folder / "home", folder / "evil"
    (home / ".keras").mkdir(parents=True)
    settings = {"floatx": "float64", "epsilon": 0.1, "backend": "jax", "image_data_format": "channels_first"}
    (home / ".keras" / "keras.json").write_text(json.dumps(settings))
    evil.mkdir()
    (evil / "sitecustomize.py").write_text(
        "import sys\nif 'common.running.worker' in sys.orig_argv:\n    import numpy\n    numpy.random.default_rng = None\n"
    )
    (evil / "tensorflow.py").write_text("raise ImportError('not this one')\n")
    (evil / "matplotlibrc").write_text("font.size: 30\nsavefig.dpi: 20\nsavefig.bbox: tight\nsvg.fonttype: none\n")
    return {
        **os.environ,
        **dict.fromkeys(("KERAS_MAX_EPOCHS", "KERAS_MAX_STEPS_PER_EPOCH", "TF_DISABLE_MKL"), "1"),
        "HOME": str(home),
        "PYTHONPATH": f"{evil}:{PROJECT}",
        "PYTHONOPTIMIZE": "2",
        "PYTHONHASHSEED": "77",
        "KERAS_BACKEND": "torch",
        "TF_XLA_FLAGS": "--tf_xla_auto_jit=2 --tf_xla_cpu_global_jit",
        "XLA_FLAGS": "--xla_cpu_enable_fast_math=true",
        "TF_NUM_INTRAOP_THREADS": "2",
        "ONEDNN_MAX_CPU_ISA": "SSE41",
        "ONEDNN_DEFAULT_FPMATH_MODE": "BF16",
        "OMP_NUM_THREADS": "5",
        "OPENBLAS_CORETYPE": "Prescott",
        "NPY_DISABLE_CPU_FEATURES": "AVX2 FMA3",
        "GLIBC_TUNABLES": "glibc.cpu.hwcaps=-AVX2,-FMA",
        "CUDA_VISIBLE_DEVICES": "7",
        "LC_ALL": "tr_TR.ISO-8859-9",
        "PYTHONIOENCODING": "ascii",
        "TZ": "Asia/Kathmandu",
        "MPLBACKEND": "module://matplotlib_inline.backend_inline",
        "MATPLOTLIBRC": str(evil),
        "FORCE_COLOR": "1",
        "COLUMNS": "20",
        "GIT_DIR": str(folder),
    }


def test_rows_and_figures_do_not_depend_on_the_environment(tmp_path, cache):
    environments = {"empty": {"CACHE_DIR": str(cache)}, "hostile": hostile(tmp_path)}
    seen = {}
    for name, variables in environments.items():
        folder = tmp_path / name
        folder.mkdir()
        path = write(folder, SCRIPT, epochs=2)
        arguments = [
            sys.executable,
            "-m",
            "common.commands.run",
            str(path),
            "SEEDS=1",
            "JOBS=1",
            "SVG=1",
            f"RESULTS={folder / 'out'}",
        ]
        done = subprocess.run(arguments, cwd=PROJECT, env=variables, capture_output=True, timeout=300)
        assert (done.returncode, done.stderr) == (0, b""), done.stderr.decode(errors="replace")
        assert b"\x1b" not in done.stdout
        provenance = [(row["kind"], row["versions"], row["commit"]) for row in store.read_rows(files_in(folder / "out"))]
        drawn = {path.name: path.read_bytes() for path in sorted((folder / "out").rglob("*accuracy.*"))}
        declaration = store.read_declaration(files_in(folder / "out"))
        seen[name] = declaration, reproducible(folder / "out"), provenance, drawn
    assert len(seen["empty"][3]) == 2
    assert seen["hostile"] == seen["empty"]
