"""Example films for the dashboard: what the best encoder drew and wrote, beside the truth.

Only of corpora that may be shown (``Sweep.may_show_images``). Films are taken by rank of their own
score, from best to worst, so that nobody picks the pretty ones. No identifier goes with them.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import final

import numpy as np
import polars as pl
from PIL import Image

from radsweep import parts
from radsweep.corpus.manifest import Corpus
from radsweep.dashboards.blocks import Film, Films
from radsweep.dashboards.style import OTHERS, PARADIGMS
from radsweep.evaluate.wanted import Wanted, predicted, scored_corpus, wanted
from radsweep.laws.words import images_in_words, label_title, paradigm_title
from radsweep.specs import Cell, Sweep
from radsweep.store import Store
from radsweep.store.layout import predictions_file
from radsweep.sweep.alike import alike
from radsweep.sweep.pictures import Pixels, png, read_films, reader_of
from radsweep.sweep.similarity import kept_maps, shown_cells
from radsweep.tasks.base import Task
from radsweep.tasks.lines_tubes_seg import unpacked
from radsweep.tasks.statements import asserted

RANKS = {"best": 0.0, "upper quarter": 0.25, "median": 0.5, "lower quarter": 0.75, "worst": 1.0}
"""Which films are shown: their place among all, ordered by score."""

LARGEST_PIXELS = 288
"""Side of a panel at most. A film of half that or less is enlarged two or more times."""

GAP_PIXELS = 6
COLOURS = tuple(colour for colour, _ in (*PARADIGMS.values(), *OTHERS))
"""Of structures, in the order of the predictions' labels."""

OPACITY = 0.65
Rating = Callable[[pl.DataFrame], pl.DataFrame]
"""Predictions -> ``image_id`` and ``score`` of the films where the truth holds something."""


@final
@dataclass(frozen=True)
class _Shown:
    """One encoder's answers to a task, its open weights' beside them, and which films to show."""

    cell: Cell
    table: pl.DataFrame
    open_weights: pl.DataFrame | None
    picks: tuple[tuple[str, str, float], ...]
    """Rank in words, image id, score."""

    @property
    def title(self) -> str:
        name = paradigm_title(self.cell.recipe.paradigm)
        seed = f", seed {self.cell.seed}" if self.cell.seed else ""
        return f"{name} at {images_in_words(self.cell.subset.images)} images{seed}"


def films_of(sweep: Sweep, store: Store) -> tuple[Films, ...]:
    """What can be shown of what is scored so far; nothing where films may not be shown.

    Raises StoreError or StreamError where the films themselves cannot be read.
    """
    if not sweep.may_show_images or sweep.protocol is None:
        return ()
    if scored_corpus(sweep, sweep.protocol) != sweep.corpus:
        # That the sweep's own corpus may be shown says nothing of another.
        return ()
    rows = predicted(store, wanted(store, sweep, sweep.cells()))
    maps = kept_maps(sweep, store)
    if not rows and maps is None:
        return ()
    corpus = Corpus.open(store, scored_corpus(sweep, sweep.protocol))
    blocks = []
    for task, rate, show in (
        ("lines_tubes_seg", _dice, _drawn),
        ("reports", _statements, _written),
    ):
        shown = _best(store, [row for row in rows if row.unit.task == task], rate)
        if shown is not None:
            blocks.append(show(corpus, shown))
    if maps is not None:
        blocks.append(alike(corpus, maps, shown_cells(sweep, store)))
    return tuple(blocks)


def _best(store: Store, rows: Sequence[Wanted], rate: Rating) -> _Shown | None:
    """Of the largest scale that is scored, the cell with the highest mean over its films."""
    own = [row for row in rows if row.unit.probe == _own_probe(row.unit.task)]
    trained = [row for row in own if not row.cell.is_baseline]
    if not trained:
        return None
    largest = max(row.cell.subset.images for row in trained)
    found = []
    for row in trained:
        if row.cell.subset.images == largest:
            table = store.read_table(predictions_file(row.trial))
            scored = rate(table).sort("score", "image_id", descending=[True, False])
            if len(scored):
                found.append((scored["score"].to_numpy().mean(), row.cell, table, scored))
    if not found:
        return None
    _, cell, table, scored = max(found, key=lambda one: one[0])
    starts = [row for row in own if row.cell.key == cell.baseline.key]
    before = store.read_table(predictions_file(starts[0].trial)) if starts else None
    places = {word: round(share * (len(scored) - 1)) for word, share in RANKS.items()}
    picks = tuple((word, *scored.row(place)) for word, place in places.items())
    return _Shown(cell, table, before, picks)


def _own_probe(task: str) -> str:
    kind: type[Task] = parts.find("tasks", task)
    return kind.probes[0]


def _dice(table: pl.DataFrame) -> pl.DataFrame:
    """Mean Dice over the structures that are there or were drawn: 0 for an invented one."""
    there = table.filter((pl.col("target") > 0).any().over("image_id"))
    return there.group_by("image_id").agg(pl.col("dice").mean().alias("score"))


def _statements(table: pl.DataFrame) -> pl.DataFrame:
    """F1 of the findings that are stated, where the true report states any."""
    rows = []
    for image, true, written in table.select("image_id", "target", "prediction").iter_rows():
        there, said = asserted(true), asserted(written)
        if there:
            rows.append((image, 2 * len(there & said) / (len(there) + len(said))))
    schema = {"image_id": pl.String, "score": pl.Float64}
    return pl.DataFrame(rows, schema=schema, orient="row")


def _drawn(corpus: Corpus, shown: _Shown) -> Films:
    """Film, truth, open weights and encoder side by side."""
    images = [image for _, image, _ in shown.picks]
    labels = shown.table["label"].unique(maintain_order=True).to_list()
    reader, place = reader_of(corpus, images)
    pixels = read_films(reader, [place[image] for image in images])
    true = reader.masks(np.array([place[image] for image in images]))
    true = true[:, [corpus.mask_classes.index(label) for label in labels]]
    films = []
    for i, (word, image, score) in enumerate(shown.picks):
        panels = [_painted(pixels[i], None), _painted(pixels[i], true[i])]
        if shown.open_weights is not None:
            panels.append(_painted(pixels[i], _masks(shown.open_weights, image, labels)))
        panels.append(_painted(pixels[i], _masks(shown.table, image, labels)))
        there = [name for name, mask in zip(labels, true[i], strict=True) if mask.any()]
        lines = (("There", _spoken(there)), ("Dice", f"{score:.2f}"))
        films.append(Film(word, png(np.concatenate(_apart(panels), axis=1)), lines))
    kept = "the film, the truth, " + (
        "the open weights, " if shown.open_weights is not None else ""
    )
    return Films(
        "Lines and tubes as drawn",
        f"From left to right: {kept}{shown.title} (of the largest scale, what "
        "drew best). Films by rank of their Dice, among those with a line or tube.",
        tuple((_spoken([name]), COLOURS[i % len(COLOURS)]) for i, name in enumerate(labels)),
        tuple(films),
    )


def _written(corpus: Corpus, shown: _Shown) -> Films:
    """Film, true report and generated report, with what they agree on."""
    images = [image for _, image, _ in shown.picks]
    reader, place = reader_of(corpus, images)
    pixels = read_films(reader, [place[image] for image in images])
    texts = {
        row[0]: row[1:] for row in shown.table.select("image_id", "target", "prediction").rows()
    }
    films = []
    for film, (word, image, score) in zip(pixels, shown.picks, strict=True):
        true, written = texts[image]
        there, said = asserted(true), asserted(written)
        lines = (
            ("The radiologist", " ".join(true.split())),
            (shown.title, " ".join(written.split()) or "nothing"),
            ("Found", _spoken(sorted(there & said))),
            ("Missed", _spoken(sorted(there - said))),
            ("Invented", _spoken(sorted(said - there))),
            ("Finding F1", f"{score:.2f}"),
        )
        films.append(Film(word, png(_painted(film, None)), lines))
    return Films(
        "Reports as written",
        f"What {shown.title} (of the largest scale, what wrote best) writes of films that it "
        "never saw, beside what the radiologist wrote. Films by rank of their own finding F1, "
        "among those whose report states a finding.",
        (),
        tuple(films),
    )


def _masks(table: pl.DataFrame, image: str, labels: Sequence[str]) -> Pixels:
    """uint8 [classes, H, W] of 0 and 1, as the task's ``table`` packed them."""
    found = {}
    rows = table.filter(pl.col("image_id") == image)
    for label, mask, height, width in rows.select("label", "mask", "height", "width").rows():
        found[label] = unpacked(mask, height, width)
    return np.stack([found[label] for label in labels])


def _painted(film: Pixels, masks: Pixels | None) -> Pixels:
    """uint8 [side, side', 3]: the film, structures in their colours, enlarged or reduced."""
    canvas = np.repeat(film[..., None], 3, axis=2).astype(np.float32)
    for i, mask in enumerate(() if masks is None else masks):
        colour = np.array(_rgb(COLOURS[i % len(COLOURS)]), dtype=np.float32)
        there = mask.astype(bool)
        canvas[there] = (1 - OPACITY) * canvas[there] + OPACITY * colour
    picture = Image.fromarray(canvas.round().astype(np.uint8))
    longest = max(film.shape)
    if 2 * longest <= LARGEST_PIXELS:
        times = LARGEST_PIXELS // longest
        size = (picture.width * times, picture.height * times)
        picture = picture.resize(size, Image.Resampling.NEAREST)
    else:
        picture.thumbnail((LARGEST_PIXELS, LARGEST_PIXELS))
    return np.asarray(picture)


def _rgb(colour: str) -> tuple[int, int, int]:
    return int(colour[1:3], 16), int(colour[3:5], 16), int(colour[5:7], 16)


def _apart(panels: Sequence[Pixels]) -> list[Pixels]:
    gap = np.full((panels[0].shape[0], GAP_PIXELS, 3), 255, dtype=np.uint8)
    return [panels[0], *(part for panel in panels[1:] for part in (gap, panel))]


def _spoken(names: Sequence[str]) -> str:
    return ", ".join(label_title(name) for name in names) or "nothing"
