"""A record of submitted jobs: a restarted Snakemake finds its jobs again and submits none twice."""

import hashlib
import json
import os
import time
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from snakemake_interface_executor_plugins.jobs import JobExecutorInterface

READS = 3  # attempts to read a file of a shared disk, a second apart


@dataclass(frozen=True)
class Entry:
    """A submitted SLURM job: its id, the folder of its logs, and a digest of what it does."""

    job_id: str
    folder: str
    work: str


class Ledger:
    """One small file per job that is submitted and not yet reported to Snakemake as ended."""

    def __init__(self, folder: Path):
        self.folder = folder

    def write(self, job: JobExecutorInterface, job_id: str, folder: Path) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        partial = self._file(job).with_suffix(f".{os.getpid()}")
        with open(partial, "w") as file:
            file.write(json.dumps(asdict(Entry(job_id, str(folder), work(job)))))
            file.flush()
            with suppress(OSError):  # of a disk without fsync
                os.fsync(file.fileno())
        partial.replace(self._file(job))

    def read(self, job: JobExecutorInterface) -> Entry | None:
        """The entry of a job, if any. Raises OSError, ValueError or TypeError if it cannot be read."""
        for left in reversed(range(READS)):
            try:
                return Entry(**json.loads(self._file(job).read_text()))
            except FileNotFoundError:
                return None
            except OSError:  # a stale file of a shared disk
                if not left:
                    raise
                time.sleep(1)

    def remove(self, job: JobExecutorInterface) -> None:
        self._file(job).unlink(missing_ok=True)

    def _file(self, job: JobExecutorInterface) -> Path:
        return self.folder / f"{_digest([job.name, *sorted(map(str, job.output))])}.json"


def work(job: JobExecutorInterface) -> str:
    """Digest of what a job does, settings included: it changes if another command makes the same files."""
    parts = job.jobs if job.is_group() else [job]
    return _digest(sorted(f"{part.name} {part.shellcmd}" for part in parts))


def _digest(words: list[str]) -> str:
    return hashlib.sha1("\n".join(words).encode()).hexdigest()
