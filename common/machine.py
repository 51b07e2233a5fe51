"""What this computer has, asked without TensorFlow."""

import os
import pathlib
import platform
import subprocess


def cores() -> int:
    """Processors this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def gpus() -> list[str]:
    """The GPUs that this process may use, as CUDA names them; asked without TensorFlow."""
    chosen = os.environ.get("CUDA_VISIBLE_DEVICES")
    if chosen is not None:
        return [name for name in chosen.split(",") if name.strip() not in ("", "-1")]
    try:
        done = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, timeout=20)
    except (OSError, subprocess.TimeoutExpired):
        return []
    listed = [line for line in done.stdout.splitlines() if line.startswith("GPU")]
    return [str(i) for i in range(len(listed))]


def processor() -> str:
    """The name of the processor, and the widest of its vector instructions that TensorFlow uses (Linux)."""
    facts = _processor_facts()
    if "model name" not in facts:
        return platform.processor() or platform.machine()
    return f"{facts['model name']}, {'AVX-512' if 'avx512f' in facts['flags'] else 'AVX2'}"


def kind() -> str:
    """What decides the bits of a training on this processor: its instructions (Linux), and whether TensorFlow uses oneDNN."""
    flags = _processor_facts().get("flags", "").split()
    instructions = ["AVX-512" if "avx512f" in flags else "AVX2", *(["bfloat16"] if "avx512_bf16" in flags else [])]
    return ", ".join([*instructions, f"oneDNN {'off' if os.environ.get('TF_ENABLE_ONEDNN_OPTS') == '0' else 'on'}"])


def lacks_bfloat16() -> bool:
    """Whether the processor multiplies bfloat16 only by way of float32, as far as it is known (Linux)."""
    flags = _processor_facts().get("flags")
    return flags is not None and not any(flag in flags for flag in ("avx512_bf16", "amx_bf16"))


def _processor_facts() -> dict[str, str]:
    """What Linux tells of the first processor, by name; nothing elsewhere."""
    try:
        first, *_ = pathlib.Path("/proc/cpuinfo").read_text().split("\n\n")
    except OSError:
        return {}
    lines = [line.partition(":") for line in first.splitlines()]
    return {name.strip(): value.strip() for name, _, value in lines}
