"""`Job`: all that a worker needs to know of a trial. Imports no TensorFlow, so that its parent can make one."""

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
    """A trial to be.

    Args:
        script: the experiment's; arguments: of its `train`.
        folder: of the trial's checkpoints; checkpoint_steps: updates between them within an epoch.
        keep: where the model goes.
        writes: false for a worker whose chief is on another machine.
        scores_test: false for a search's trial.
        row: columns known beforehand.
        code: a hash of each file that the trial may import of this project, as it was when the call began.
    """

    script: pathlib.Path
    seed: int
    arguments: dict
    setting: Setting
    dataset: Dataset
    folder: pathlib.Path
    keep: pathlib.Path | None
    checkpoint_steps: int | None
    writes: bool
    scores_test: bool
    row: dict
    code: dict[str, str]

    def check_code(self) -> None:
        """Raises `CodeChanged` if a file is not what it was when the call began."""
        for path, known in self.code.items():
            if file_hash(pathlib.Path(path)) != known:
                raise CodeChanged(
                    f"{path} has changed since this call began: run the same command again, which keeps what is done"
                )

    def to_json(self) -> str:
        """For another process, on one line."""
        fields = {**vars(self), "setting": dataclasses.asdict(self.setting), "dataset": self.dataset.to_json()}
        return json.dumps(fields | {name: str(fields[name]) for name in PATHS if fields[name]})

    @classmethod
    def from_json(cls, line: str) -> "Job":
        """What `to_json` gave."""
        fields = json.loads(line)
        fields |= {"setting": Setting(**fields["setting"]), "dataset": Dataset.from_json(fields["dataset"])}
        return cls(**fields | {name: pathlib.Path(fields[name]) for name in PATHS if fields[name]})
