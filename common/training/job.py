"""`Job`: the description of a trial that is sent to a worker. Imports no TensorFlow, so that the main process can make one."""

import dataclasses
import json
import pathlib
from dataclasses import dataclass

from common.data.dataset import Dataset
from common.errors import CodeChanged
from common.files import file_hash
from common.setting import Setting

PATHS = ("script", "folder", "keep")


@dataclass(frozen=True)
class Job:
    """Description of a trial for a worker.

    Args:
        script: path of the experiment's script; arguments: keyword arguments of its `train`.
        full_size: number of the setting's training images, of which an arm may take a part.
        folder: folder of the trial's checkpoints; checkpoint_steps: updates between checkpoints within an epoch.
        keep: path to save the model to, if any.
        writes: whether the worker writes checkpoints; False if its chief runs on another machine.
        scores_test: whether the test split is scored; False for trials of a search.
        row: columns of the row that are known before training.
        code: hashes of the project's files that the trial may import, by path, at the start of the command.
    """

    script: pathlib.Path
    seed: int
    arguments: dict
    setting: Setting
    dataset: Dataset
    full_size: int
    folder: pathlib.Path
    keep: pathlib.Path | None
    checkpoint_steps: int | None
    writes: bool
    scores_test: bool
    row: dict
    code: dict[str, str]

    def check_code(self) -> None:
        """Raise `CodeChanged` if a file has changed since the command started."""
        for path, expected in self.code.items():
            if file_hash(pathlib.Path(path)) != expected:
                raise CodeChanged(
                    f"{path} has changed since this run started: run the same command again, which keeps finished trials"
                )

    def to_json(self) -> str:
        """The job as one line of JSON."""
        fields = {**vars(self), "setting": dataclasses.asdict(self.setting), "dataset": self.dataset.to_json()}
        return json.dumps(fields | {name: str(fields[name]) for name in PATHS if fields[name]})

    @classmethod
    def from_json(cls, line: str) -> "Job":
        """The job of a line that `to_json` returned."""
        fields = json.loads(line)
        fields |= {"setting": Setting(**fields["setting"]), "dataset": Dataset.from_json(fields["dataset"])}
        return cls(**fields | {name: pathlib.Path(fields[name]) for name in PATHS if fields[name]})
