"""Which measurements a sweep wants, which are there, and whose score rows they become."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import final

from radsweep.corpus.manifest import Corpus, corpus_file
from radsweep.evaluate.encoders import Encoder, cell_facts
from radsweep.evaluate.features import Request
from radsweep.evaluate.score_rows import with_cell
from radsweep.evaluate.search import Schedule
from radsweep.evaluate.texts import is_answered, probes_of, shown
from radsweep.evaluate.trial import (
    Unit,
    make_probe,
    make_task,
    measures_file,
    probe_seed,
    requests_of,
    score_key,
    trial_key,
)
from radsweep.specs import Cell, Protocol, Sweep
from radsweep.store import Store, scores
from radsweep.store.layout import predictions_file, scores_file, sweep_file
from radsweep.store.record import CellStore
from radsweep.store.together import together
from radsweep.tasks.base import TaskData


@final
@dataclass(frozen=True, kw_only=True)
class Wanted:
    """The score rows of one cell, task and probe."""

    unit: Unit
    trial: str
    """Key of the measurement, which other cells with the same weights share."""
    score: str
    """Key of the score file."""
    cell: Cell

    @property
    def name(self) -> str:
        """For people, such as ``clip-512-s0-0123456789 / findings``, with a probe that is extra."""
        return f"{self.cell.name} / {shown(self.unit.task, self.unit.probe)}"


def scored_corpus(sweep: Sweep, protocol: Protocol) -> str:
    """Where the images of the tasks come from."""
    return protocol.corpus or sweep.corpus


def wanted(store: Store, sweep: Sweep, cells: Iterable[Cell]) -> list[Wanted]:
    """All score files of the finished ``cells``, cell by cell; none without a protocol.

    What a text side answers is not asked of an encoder without one, see ``texts.not_asked``.
    """
    protocol = sweep.protocol
    if protocol is None:
        return []
    corpus = scored_corpus(sweep, protocol)
    digest = store.read_json(corpus_file(corpus, "card.json"))["manifest_digest"]
    asked = [(task, probe) for task in protocol.tasks for probe in probes_of(task, protocol)]

    def of_cell(cell: Cell) -> list[Wanted]:
        record = CellStore(store, cell.name).record_if_done()
        if record is None:
            return []
        encoder, found = Encoder.of(cell, record), []
        for task, probe in asked:
            if not is_answered(store, cell, task, probe):
                continue
            unit = Unit(encoder=encoder, task=task, probe=probe)
            trial = trial_key(unit, protocol, corpus, digest)
            score = score_key(sweep.name, cell.name, trial)
            found.append(Wanted(unit=unit, trial=trial, score=score, cell=cell))
        return found

    return list(chain.from_iterable(together(of_cell, cells)))


def unscored(store: Store, rows: Sequence[Wanted]) -> list[Wanted]:
    """Those whose score file is not there."""
    present = _files(store, "scores")
    return [row for row in rows if scores_file(row.score) not in present]


def measured(store: Store, rows: Sequence[Wanted]) -> list[Wanted]:
    """Those of which there are measured rows, which become the scores of every such cell."""
    present = _files(store, "predictions")
    return [row for row in rows if measures_file(row.trial) in present]


def predicted(store: Store, rows: Sequence[Wanted]) -> list[Wanted]:
    """Those whose predictions are there."""
    present = _files(store, "predictions")
    return [row for row in rows if predictions_file(row.trial) in present]


def _files(store: Store, folder: str) -> set[str]:
    """Paths of all that lies in it: one listing instead of a question for each."""
    return {f"{folder}/{name}" for name in store.names(folder)}


def publish(store: Store, sweep: Sweep, row: Wanted) -> None:
    """Write the score file of one cell from what was measured of its weights."""
    facts = cell_facts(sweep.name, row.cell, CellStore(store, row.cell.name).record())
    scores.write(store, row.score, with_cell(store.read_table(measures_file(row.trial)), facts))


def write_index(store: Store, sweep: Sweep, rows: Sequence[Wanted]) -> None:
    """Say which score files belong to which cell; those of other cells stay as they were."""
    path = sweep_file(sweep.name, "trials.json")
    index: dict[str, list[str]] = store.read_json(path) if store.exists(path) else {}
    fresh: dict[str, list[str]] = {}
    for row in rows:
        fresh.setdefault(row.cell.name, []).append(row.score)
    store.write_json(path, index | fresh)


@final
@dataclass(frozen=True, kw_only=True)
class Grid:
    """What is to be measured, with the images and targets that it is measured on."""

    units: tuple[Unit, ...]
    """Each measurement once."""
    rows: tuple[tuple[Wanted, ...], ...]
    """Of each unit: whose score rows it becomes."""
    corpus: str
    """``name@version`` of the images."""
    corpus_digest: str
    """Of its manifest."""
    protocol: Protocol
    data: dict[str, TaskData]
    requests: tuple[Request, ...]
    """What the tasks ask of every encoder."""

    @property
    def encoders(self) -> list[Encoder]:
        """Each once, in order."""
        return list(dict.fromkeys(unit.encoder for unit in self.units))

    def schedule(self, faults: Mapping[str, str]) -> Schedule:
        """Nothing done yet, and nothing to be done for cells whose encoder has no features.

        Args:
            faults: cell -> why it has none.
        """
        protocol = self.protocol
        schedule = Schedule(
            [make_probe(unit.probe, protocol).space() for unit in self.units],
            protocol.search_trials,
            [probe_seed(protocol, unit.task, unit.probe) for unit in self.units],
        )
        for number, unit in enumerate(self.units):
            if unit.encoder.cell in faults:
                schedule.give_up(number, faults[unit.encoder.cell])
        return schedule


def make_grid(store: Store, sweep: Sweep, lacking: Sequence[Wanted]) -> tuple[Grid, Corpus]:
    """The grid that gives ``lacking`` their scores, and the corpus of its images.

    Raises SpecError where the corpus has too little for a task.
    """
    protocol = sweep.protocol
    assert protocol is not None
    corpus = Corpus.open(store, scored_corpus(sweep, protocol))
    by_trial: dict[str, list[Wanted]] = {}
    for row in lacking:
        by_trial.setdefault(row.trial, []).append(row)
    units = tuple(rows[0].unit for rows in by_trial.values())
    data = {
        task: make_task(task).data(corpus, protocol)
        for task in dict.fromkeys(u.task for u in units)
    }
    asked = {
        (request.needs, request.side, request.images): request
        for task, probe in dict.fromkeys((unit.task, unit.probe) for unit in units)
        for request in requests_of(
            data[task], make_task(task), make_probe(probe, protocol)
        ).values()
    }
    grid = Grid(
        units=units,
        rows=tuple(tuple(rows) for rows in by_trial.values()),
        corpus=corpus.name,
        corpus_digest=corpus.card["manifest_digest"],
        protocol=protocol,
        data=data,
        requests=tuple(asked.values()),
    )
    return grid, corpus
