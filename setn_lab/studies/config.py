"""What the studies' parameters have in common, and the searches that a study works on."""

import dataclasses
import json
from dataclasses import dataclass, replace
from typing import Any

from setn_lab.compute.workers import Workers
from setn_lab.config import ConfigError, bounded, decisive, differences, unhashed
from setn_lab.runs.place import found
from setn_lab.runs.run import Run
from setn_lab.search.config import SearchConfig, Strategy, read_config
from setn_lab.search.template_config import TemplateConfig


@dataclass(frozen=True, kw_only=True)
class StudyConfig(TemplateConfig):
    """The parameters of a study: those of its searches, T, and where its work is done. Raises ConfigError."""

    # candidates
    candidates: int = bounded(1000, at_least=1)  # T

    # machine
    workers: int = bounded(1, at_least=1, identity=False)  # processes of this machine, or of the cluster
    worker_threads: int = bounded(1, at_least=1)  # of each, on a CPU the last bits of results depend on it
    worker_gpus: float = bounded(0.0, at_least=0, identity=False)  # for each, a fraction is shared
    cluster: str | None = unhashed(None)  # address of a running Ray cluster, which needs the extra cluster

    # run
    run_dir: str | None = unhashed(None)  # None: named from the config's digest
    interactive: bool = unhashed(True)  # widgets, where the notebook has any

    def __post_init__(self) -> None:
        """Check every field."""
        super().__post_init__()
        spread = self.workers > 1 or self.cluster is not None
        if spread and self.worker_gpus == 0 and self.device.startswith(("auto", "cuda")) and self._on_cuda():
            raise ConfigError(
                f"worker_gpus: 0 given with workers on {self.device!r}, which hides this machine's GPUs from them; a "
                "number above 0 is allowed, for example 0.5 where two workers share a GPU, or the device 'cpu'"
            )

    def _on_cuda(self) -> bool:
        """Whether the device is a GPU of this machine."""
        if self.device != "auto":
            return True
        import torch  # the parameters of a command line are read without it

        return torch.cuda.is_available()

    @property
    def pool(self) -> Workers:
        """The workers that share the study's work."""
        return Workers(self.workers, self.cluster, self.worker_threads, self.worker_gpus)

    def search(self, strategy: Strategy, folder: str | None = None, **changes: Any) -> SearchConfig:
        """The search of that strategy with this study's parameters: that of a given run folder, or the study's own.

        changes: parameters of the search that are others than the study's.

        It is scored as the study says, whatever the run was scored by. Raises ConfigError for a folder without a
        config, and for one of other parameters, naming those that differ.
        """
        fields = {field.name: getattr(self, field.name) for field in dataclasses.fields(TemplateConfig)}
        wanted = SearchConfig(**{**fields, **changes}, strategy=strategy, candidates=self.candidates)
        if folder is None:
            return wanted
        given = read_config(found(folder, "run_dir of the search"))
        there, here = (  # what the data set holds is compared when the run is opened
            {**decisive(SearchConfig, vars(search)), "dataset": ""} for search in (given, wanted)
        )
        if lines := differences(there, here):
            raise ConfigError(
                f"{folder} holds a search of other parameters than this study's:\n  "
                + "\n  ".join(lines)
                + "\nGive the study those of the run, or leave the run out: the study makes its own"
            )
        return replace(wanted, run_dir=given.run_dir, template_run=given.template_run)


def copy_journal(source: Run, journal: str, target: Run, name: str) -> None:
    """Copy a journal of a search's run into a study's, so that the study's report needs no other folder."""
    target.write(f"{name}.jsonl", "".join(json.dumps(record) + "\n" for record in source.read(journal)))
