"""The environment variables of workers: a fixed set, so that the user's variables do not change results unnoticed.

Workers get those of the user's variables that cannot change a result, or that are recorded in its row: devices and oneDNN in the
column `kind`, library paths in `versions`. Others, such as TF_*, XLA_*, OMP_*, ONEDNN_*, KERAS_*, are removed.
"""

import os
import pathlib
import sys
from collections.abc import Mapping

from common.machine import LIBRARIES, ONEDNN, uses_onednn

PROXIES = ("http_proxy", "https_proxy", "ftp_proxy", "all_proxy", "no_proxy")
PASSED_ON = frozenset(
    (
        *("HOME", "USER", "LOGNAME", "SHELL", "PATH", "TERM", "TZ", "LANG", "LANGUAGE", "XDG_CACHE_HOME"),
        *("CACHE_DIR", "TFDS_DATA_DIR"),
        *PROXIES,
        *(name.upper() for name in PROXIES),
        *("SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "GRPC_DEFAULT_SSL_ROOTS_FILE_PATH"),
        *("NCCL_SOCKET_IFNAME", "NCCL_IB_DISABLE", "NCCL_IB_HCA", "NCCL_DEBUG", "CUDA_HOME", "CUDA_PATH", "CUDA_CACHE_PATH"),
        *("PYTHONBREAKPOINT", "PYTHONDONTWRITEBYTECODE", "PYTHONPYCACHEPREFIX"),
        LIBRARIES,
    )
)
"""Variables that workers get from the user."""
LOCALE = "LC_"
"""Prefix of further such variables, which determine the encoding of file names."""


REPORTED = ("CACHE_DIR", "TFDS_DATA_DIR", "CUDA_VISIBLE_DEVICES", ONEDNN, LIBRARIES)
"""Variables for data and devices, which are printed at the start of a run."""


def reported_variables() -> str:
    """A line with the variables of `REPORTED` that are set; empty if there are none."""
    variables = [f"{name}={os.environ[name]}" for name in REPORTED if os.environ.get(name)]
    return f"from the environment: {', '.join(variables)}" if variables else ""


def environment(
    start_options: tuple[int, int, int, bool],
    gpus: list[str],
    scratch: pathlib.Path,
    user: Mapping[str, str] | None = None,
    *,
    tf_config: str = "",
) -> dict[str, str]:
    """All environment variables of a worker.

    Args:
        start_options: threads, replicas, workers and determinism of its trials.
        gpus: GPUs that it may use, by their CUDA names.
        scratch: a folder for temporary files, and for a new keras.json with Keras' defaults.
        user: the user's variables, by default those of this process.
        tf_config: `TF_CONFIG` of the machines that train each trial together; empty for a single one.
    """
    user = os.environ if user is None else user
    return {
        **{name: value for name, value in user.items() if name in PASSED_ON or name.startswith(LOCALE)},
        "KERAS_BACKEND": "tensorflow",
        "KERAS_HOME": str(scratch / "keras"),
        "KERAS_DOWNLOADS": user.get("KERAS_DOWNLOADS") or user.get("KERAS_HOME") or os.path.expanduser("~/.keras"),
        "OMP_NUM_THREADS": str(start_options[0]),
        "TF_CPP_MIN_LOG_LEVEL": "3",
        "CUDA_DEVICE_ORDER": "PCI_BUS_ID",  # as in nvidia-smi
        "CUDA_VISIBLE_DEVICES": ",".join(gpus) or "-1",
        ONEDNN: str(int(uses_onednn())),
        "PYTHONHASHSEED": "0",
        "PYTHONIOENCODING": "utf-8:backslashreplace",  # no output of a script raises an encoding error
        "PYTHONUTF8": str(sys.flags.utf8_mode),  # file names must be decoded as in the main process
        "TMPDIR": str(scratch),
        **({"TF_CONFIG": tf_config} if tf_config else {}),
    }
