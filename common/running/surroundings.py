"""The environment variables of what trains: a fixed set, so that nothing around a trial changes its bits unnoticed.

Of the user's variables a worker gets those that cannot change a result, or that are part of its row: a choice of devices or of
oneDNN is in `kind`, a path of libraries in `versions`. All others are left out: TF_*, XLA_*, OMP_*, ONEDNN_*, KERAS_*, …
"""

import os
import pathlib
import sys
from collections.abc import Mapping

from common.machine import LIBRARIES, ONEDNN, uses_onednn

PROXIES = ("http_proxy", "https_proxy", "ftp_proxy", "all_proxy", "no_proxy")
KEPT = frozenset(
    (
        *("HOME", "USER", "LOGNAME", "SHELL", "PATH", "TERM", "TZ", "LANG", "LANGUAGE", "XDG_CACHE_HOME"),
        *("CACHE_DIR", "TFDS_DATA_DIR", "TF_CONFIG"),
        *PROXIES,
        *(name.upper() for name in PROXIES),
        *("SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "GRPC_DEFAULT_SSL_ROOTS_FILE_PATH"),
        *("NCCL_SOCKET_IFNAME", "NCCL_IB_DISABLE", "NCCL_IB_HCA", "NCCL_DEBUG", "CUDA_HOME", "CUDA_PATH", "CUDA_CACHE_PATH"),
        *("PYTHONBREAKPOINT", "PYTHONDONTWRITEBYTECODE", "PYTHONPYCACHEPREFIX"),
        LIBRARIES,
    )
)
"""What stays as the user has it."""
LOCALE = "LC_"
"""How the names of variables begin that say how file names are written."""


COUNTING = ("CACHE_DIR", "TFDS_DATA_DIR", "TF_CONFIG", "CUDA_VISIBLE_DEVICES", ONEDNN, LIBRARIES)
"""Variables that say where data are and what a trial runs on: those of them that are set are said at the start of a call."""


def said() -> str:
    """A line about the variables of the environment that count; blank where none is set."""
    there = [f"{name}={os.environ[name]}" for name in COUNTING if os.environ.get(name)]
    return f"from the environment: {', '.join(there)}" if there else ""


def environment(
    fits: tuple[int, int, int, bool],
    gpus: list[str],
    scratch: pathlib.Path,
    user: Mapping[str, str] | None = None,
) -> dict[str, str]:
    """All environment variables of a process that trains.

    Args:
        fits: threads, replicas, machines and determinism of its trials.
        gpus: those that it may use, as CUDA names them.
        scratch: a folder for its temporary files, and for Keras' settings, which are then those that Keras came with.
        user: by default the calling process' environment.
    """
    user = os.environ if user is None else user
    return {
        **{name: value for name, value in user.items() if name in KEPT or name.startswith(LOCALE)},
        "KERAS_BACKEND": "tensorflow",
        "KERAS_HOME": str(scratch / "keras"),
        "KERAS_DOWNLOADS": user.get("KERAS_DOWNLOADS") or user.get("KERAS_HOME") or os.path.expanduser("~/.keras"),
        "OMP_NUM_THREADS": str(fits[0]),
        "TF_CPP_MIN_LOG_LEVEL": "3",
        "CUDA_DEVICE_ORDER": "PCI_BUS_ID",  # that of nvidia-smi
        "CUDA_VISIBLE_DEVICES": ",".join(gpus) or "-1",
        ONEDNN: str(int(uses_onednn())),
        "PYTHONHASHSEED": "0",
        "PYTHONIOENCODING": "utf-8:backslashreplace",  # what a script prints ends no trial
        "PYTHONUTF8": str(sys.flags.utf8_mode),  # file names must mean the same to it
        "TMPDIR": str(scratch),
    }
