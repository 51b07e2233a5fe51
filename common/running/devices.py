"""What trials can run on here: CPU cores, or GPUs, each of which takes one trial at a time or a few."""

from dataclasses import dataclass, field

from common.machine import cores, gpus


@dataclass
class Devices:
    """Hands out GPUs to workers so that none has more trials than it takes."""

    names: list[str]
    per_gpu: int = 1
    workers: int = 1
    """Machines that train each trial together."""
    load: dict[str, int] = field(default_factory=dict)

    @classmethod
    def here(cls, per_gpu: int, workers: int = 1) -> "Devices":
        return cls(gpus(), per_gpu, workers)

    def jobs(self, threads: int, replicas: int) -> int:
        """How many trials may run at the same time by default."""
        if self.workers > 1:
            return 1
        if self.names:
            return max(1, len(self.names) * self.per_gpu // replicas)
        return max(1, cores() // (threads * replicas))

    def lack(self, replicas: int, workers: int = 1) -> str | None:
        """Why a trial of so many replicas on so many machines cannot run here; None where it can."""
        if workers != self.workers:
            return f"needs {workers} machines, TF_CONFIG names {self.workers if self.workers > 1 else 'none'}"
        here = replicas // workers
        if self.names and here > len(self.names):
            return f"needs {here} GPUs, {len(self.names)} are here"
        if not self.names and workers > 1 and here > 1:
            return f"needs {here} GPUs on each machine: without any, a machine of TF_CONFIG is one replica"
        return None

    def take(self, replicas: int) -> list[str]:
        """The least loaded GPUs of this machine, for one worker; none where there are none."""
        chosen = sorted(self.names, key=lambda name: self.load.get(name, 0))[:replicas]
        for name in chosen:
            self.load[name] = self.load.get(name, 0) + 1
        return chosen

    def free(self, chosen: list[str]) -> None:
        """What `take` gave is free again."""
        for name in chosen:
            self.load[name] -= 1
