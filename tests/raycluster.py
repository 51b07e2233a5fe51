"""Ray's own test cluster: several nodes on this machine, in a process that is not the test's.

python tests/raycluster.py 3          # prints the address, then obeys lines on stdin: add, add NAME=value, remove, head
"""

import contextlib
import os
import pathlib
import secrets
import select
import signal
import subprocess
import sys
import tempfile

WORKER = "common.running.worker"
CPUS = 1
"""CPUs of each node."""
OPTIONS = {
    "RAY_NUM_REDIS_GET_RETRIES": "60",
    "RAY_worker_niceness": "0",
    "RAY_gcs_rpc_server_reconnect_timeout_s": "20",
}
"""Environment variables of Ray: patience while the cluster starts, priority of workers, how long nodes wait for a lost head."""
START_SECONDS = 240
"""Time limit for the cluster to start, and for a node."""


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
            env={**os.environ, **OPTIONS, **token, **variables},
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
        ready, _, _ = select.select([self.process.stdout], [], [], START_SECONDS)
        answer = self.process.stdout.readline().strip() if ready else ""
        if not answer:
            self.log.seek(0)
            raise RuntimeError(f"the cluster has ended: {self.log.read().decode()[-2000:]}")
        return answer

    def workers(self):
        """Process ids of the workers on all nodes."""
        listed = subprocess.run(["ps", "-o", "pid=,ppid=,args=", "-s", str(self.process.pid)], capture_output=True, text=True)
        processes = {int(pid): (int(parent), words) for pid, parent, *words in map(str.split, listed.stdout.splitlines())}
        parents = {pid: processes.get(parent, (0, [""]))[1] for pid, (parent, words) in processes.items() if WORKER in words}
        return [pid for pid, words in parents.items() if words and words[0].startswith("ray::RayWorker")]

    def tell(self, command):
        """Add a node, perhaps with environment variables of its own; remove the last one added; or kill the head."""
        self.process.stdin.write(f"{command}\n")
        self.process.stdin.flush()
        return self._answer()


def main():
    from ray.cluster_utils import Cluster

    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    options = {"num_cpus": CPUS, "object_store_memory": 80_000_000}
    folder = os.environ["RAY_TMPDIR"] = tempfile.mkdtemp(prefix="ray-")
    cluster = Cluster(initialize_head=True, head_node_args={**options, "include_dashboard": False})
    nodes = [cluster.add_node(**options) for _ in range(int(sys.argv[1]) - 1)]
    print(cluster.address, file=answers)
    for line in sys.stdin:
        if line.startswith("add"):
            variables = dict(word.split("=", 1) for word in line.split()[1:])
            before = dict(os.environ)
            os.environ.update(variables)
            nodes.append(cluster.add_node(**options))
            os.environ.clear()
            os.environ.update(before)
        elif line == "remove\n":
            cluster.remove_node(nodes.pop(), allow_graceful=False)
        else:
            cluster.head_node.kill_all_processes(check_alive=False, allow_graceful=False, wait=True)
        print("done", file=answers)
    cluster.shutdown()
    subprocess.run(["rm", "-rf", str(pathlib.Path(folder))], check=False)


if __name__ == "__main__":
    main()
