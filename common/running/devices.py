"""Assignment of CPU cores or GPUs to workers."""

from dataclasses import dataclass, field

from common.machine import cores, gpus


@dataclass
class Devices:
    """The devices of this machine, with the GPUs that are in use."""

    names: list[str]
    """GPUs by their CUDA names; empty if trials run on the CPU."""
    per_gpu: int = 1
    """Trials at a time on one GPU."""
    workers: int = 1
    """Number of machines that train each trial together."""
    load: dict[str, int] = field(default_factory=dict)
    """GPU -> number of its workers."""

    @classmethod
    def here(cls, per_gpu: int, workers: int = 1) -> "Devices":
        """The devices of this machine; see the fields."""
        return cls(gpus(), per_gpu, workers)

    def jobs(self, threads: int, replicas: int) -> int:
        """Default number of trials at a time."""
        if self.workers > 1:
            return 1
        if self.names:
            return max(1, len(self.names) * self.per_gpu // replicas)
        return max(1, cores() // (threads * replicas))

    def unavailable(self, replicas: int, workers: int = 1) -> str | None:
        """Reason why a trial with so many replicas and machines cannot run on this machine; None if it can."""
        if workers != self.workers:
            return f"needs {workers} machines, TF_CONFIG lists {self.workers if self.workers > 1 else 'none'}"
        per_machine = replicas // workers
        if self.names and per_machine > len(self.names):
            return f"needs {per_machine} GPUs, this machine has {len(self.names)}"
        if not self.names and workers > 1 and per_machine > 1:
            return f"needs {per_machine} GPUs on each machine: a machine of TF_CONFIG without GPUs has one replica"
        return None

    def take(self, replicas: int) -> list[str]:
        """Assign the GPUs with the fewest workers to a worker. Returns their names; empty without GPUs."""
        chosen = sorted(self.names, key=lambda name: self.load.get(name, 0))[:replicas]
        for name in chosen:
            self.load[name] = self.load.get(name, 0) + 1
        return chosen

    def free(self, chosen: list[str]) -> None:
        """Return GPUs that `take` has assigned."""
        for name in chosen:
            self.load[name] -= 1
