"""Where one cell runs: its processes, their devices and CPUs, and what they do to fit. No Ray."""

from dataclasses import dataclass

from radsweep.errors import SpecError
from radsweep.pretrain.shard import check_options
from radsweep.specs import Cell


@dataclass(frozen=True, kw_only=True)
class Workers:
    """Where one cell runs: never part of what it is."""

    count: int = 1
    """Training processes. 1 runs as a plain Ray task, more as a Ray Train worker group."""
    most: int | None = None
    """With it the width is elastic: ``count`` processes at least and so many at most, as there is
    room; the batch must have a width's number of equal shares."""
    widen_seconds: float = 300
    """Time at one width before a wider one is asked for."""
    gpus: float = 0
    """Per process; 0 trains on CPU."""
    cpus: float = 1
    """Per process."""
    stream_cpus: float = 1
    """For each process's share of the stream."""
    stream_cpus_most: float | None = None
    """With it a share begins with ``stream_cpus`` and holds so many at most, as its trainer waits
    and there is room: nobody counts on these."""
    checkpoint_steps: int = 200
    images_at_once: int | None = None
    """Of a process's share of the batch: fewer need less memory and more time, and give the same
    gradient."""
    activation_checkpointing: bool = False
    """Compute activations anew in the backward pass: less memory, more time, the same gradient."""
    compile_blocks: bool = False
    """Let PyTorch compile the blocks of towers, which takes minutes at first: for GPUs."""
    sharded: bool = False
    """Weights and moments in shares over the processes (FSDP2), for what is too large for one."""
    keep_every_steps: int | None = None
    """Checkpoints at multiples of it stay, as long as it is given; None keeps but the newest."""
    log_to: str | None = None
    """Where log rows also go live, as ``check_log_to`` gives it; None is nowhere."""
    max_failures: int = 3
    """Restarts from one checkpoint after a lost process or machine; one that got further may have
    as many again."""
    hung_seconds: int = 600
    """A rank for which the others wait so long counts as lost, and the group begins again: more
    than the slowest checkpoint takes. Ray Train's own barriers: ``sweep.cluster.QUIET``."""

    def __post_init__(self) -> None:
        """Raise SpecError for settings that do not go together."""
        if self.stream_cpus_most is not None and self.stream_cpus_most < self.stream_cpus:
            raise SpecError(
                f"a stream of {self.stream_cpus:g} CPUs at least and {self.stream_cpus_most:g} at "
                "most; the least comes first"
            )
        if self.keep_every_steps is not None and self.keep_every_steps % self.checkpoint_steps:
            raise SpecError(
                f"--keep-every-steps {self.keep_every_steps} is no multiple of "
                f"--checkpoint-steps {self.checkpoint_steps}; change either"
            )
        if self.sharded:
            check_options(self.images_at_once, self.compile_blocks)

    @property
    def all_cpus(self) -> float:
        """What the cell takes of the cluster at most, and streams as they begin."""
        return (self.most or self.count) * (self.cpus + self.stream_cpus)

    @property
    def all_gpus(self) -> float:
        """The same of GPUs."""
        return (self.most or self.count) * self.gpus

    @property
    def process(self) -> dict[str, float]:
        """What one process takes on its node, in Ray's words."""
        return {"CPU": self.cpus, **({"GPU": self.gpus} if self.gpus else {})}

    def widths(self, batch_size: int) -> tuple[int, ...]:
        """The numbers of processes that may share a batch equally, ascending; may be none."""
        wanted = range(self.count, (self.most or self.count) + 1)
        return tuple(width for width in wanted if batch_size % width == 0)


def check_share(cell: Cell, workers: Workers) -> None:
    """Raise SpecError unless the processes can share the global batch evenly, and the weights.

    A rest that nobody takes would be counted as seen: the cell would spend less than its budget.
    """
    batch_size, count, most = cell.budget.batch_size, workers.count, workers.most or workers.count
    if not cell.is_baseline and not workers.widths(batch_size):
        fit = [number for number in range(1, batch_size + 1) if batch_size % number == 0]
        near = {max(n for n in fit if n <= count), min(n for n in fit if n >= min(most, fit[-1]))}
        wanted = f"{count}" if most == count else f"{count} to {most}"
        raise SpecError(
            f"{cell.name}: a batch of {batch_size} images is not {wanted} equal shares; give "
            f"--workers {' or '.join(str(number) for number in sorted(near))}"
        )
    if workers.sharded and not cell.is_baseline and workers.widths(batch_size)[0] == 1:
        raise SpecError(
            f"{cell.name}: --shard gives each process a share of the weights, and --workers allows "
            "1 process; give 2 at least"
        )
