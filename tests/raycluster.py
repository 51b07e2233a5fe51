"""Ray's own test cluster: several nodes on this machine, in a process that is not the test's.

python tests/raycluster.py 3          # prints the address, then obeys lines on stdin: add, add other, remove, head
"""

import contextlib
import os
import pathlib
import secrets
import signal
import subprocess
import sys
import tempfile

from common.machine import ONEDNN, uses_onednn

CPUS = 1
"""CPUs of each node."""
START_SECONDS = 240


class RayCluster:
    """A cluster; a context manager, at whose end none of its processes is left.

    Attributes:
        variables: environment variables with which a run joins it.
    """

    def __init__(self, nodes=3, **variables):
        token = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
        self.log = tempfile.TemporaryFile()  # noqa: SIM115
        self.process = subprocess.Popen(
            [sys.executable, __file__, str(nodes)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.log,
            text=True,
            env={**os.environ, "RAY_NUM_REDIS_GET_RETRIES": "60", "RAY_worker_niceness": "0", **token, **variables},
            start_new_session=True,
        )
        self.address = self._answer()
        self.variables = {"RAY_ADDRESS": self.address, **token}

    def __enter__(self):
        return self

    def __exit__(self, *_):
        with contextlib.suppress(OSError):
            self.process.stdin.close()
        try:
            self.process.wait(60)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        session = subprocess.run(["ps", "-o", "pid=", "-s", str(self.process.pid)], capture_output=True, text=True).stdout
        for pid in map(int, session.split()):  # what a killed head leaves behind
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.process.stdout.close()
        self.log.close()

    def _answer(self):
        answer = self.process.stdout.readline().strip()
        if not answer:
            self.log.seek(0)
            raise RuntimeError(f"the cluster has ended: {self.log.read().decode()[-2000:]}")
        return answer

    def tell(self, command):
        """Add a node, or one of another kind of processor; remove the last one added; or kill the head."""
        self.process.stdin.write(f"{command}\n")
        self.process.stdin.flush()
        return self._answer()


def main():
    from ray.cluster_utils import Cluster

    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    options = {"num_cpus": CPUS, "object_store_memory": 80_000_000}
    folder = tempfile.mkdtemp(prefix="ray-")
    cluster = Cluster(initialize_head=True, head_node_args={**options, "include_dashboard": False, "temp_dir": folder})
    nodes = [cluster.add_node(**options) for _ in range(int(sys.argv[1]) - 1)]
    print(cluster.address, file=answers)
    for line in sys.stdin:
        if line.startswith("add"):
            other = {ONEDNN: str(int(not uses_onednn()))} if line == "add other\n" else {}
            os.environ.update(other)
            nodes.append(cluster.add_node(**options))
            for name in other:
                os.environ.pop(name)
        elif line == "remove\n":
            cluster.remove_node(nodes.pop(), allow_graceful=False)
        else:
            cluster.head_node.kill_all_processes(check_alive=False, allow_graceful=False, wait=True)
        print("done", file=answers)
    cluster.shutdown()
    subprocess.run(["rm", "-rf", str(pathlib.Path(folder))], check=False)


if __name__ == "__main__":
    main()
