"""Copies on a machine's own disk: the store is asked once, and nothing wrong is ever believed."""

import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from radsweep.corpus.copies import VARIABLE
from radsweep.corpus.manifest import Corpus, index_table, shard_file
from radsweep.corpus.reader import Reader
from radsweep.errors import StoreError, StreamError
from radsweep.store import Store

ROWS = np.arange(0, 200, 3)


@pytest.fixture
def copies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv(VARIABLE, str(tmp_path / "copies"))
    # However full the disk of whoever runs these tests is.
    monkeypatch.setattr("radsweep.corpus.copies.KEEP_FREE", 0.0)
    return tmp_path / "copies"


@pytest.fixture
def corpus(write_toy_corpus: Callable[..., Corpus], tmp_path: Path) -> Corpus:
    return write_toy_corpus(Store(str(tmp_path / "store")), "toy@1", images=200, size=24)


def pixels_of(corpus: Corpus, rows: np.ndarray = ROWS) -> np.ndarray:
    examples = Reader(corpus.store, index_table(corpus.manifest)).examples(rows)
    return np.stack([example.pixels for example in examples])


def without_its_store(corpus: Corpus) -> None:
    for name in corpus.store.names("corpora/toy@1/shards"):
        corpus.store.delete(f"corpora/toy@1/shards/{name}")


def copied_files(copies: Path) -> list[Path]:
    return sorted(path for path in copies.rglob("*") if path.is_file())


def test_what_was_read_once_is_read_without_the_store_and_nothing_else_is(
    corpus: Corpus, copies: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(VARIABLE)
    plain = pixels_of(corpus)
    assert copied_files(copies) == []
    monkeypatch.setenv(VARIABLE, str(copies))
    assert np.array_equal(pixels_of(corpus), plain)
    without_its_store(corpus)
    assert np.array_equal(pixels_of(corpus, ROWS[::-1]), plain[::-1])
    # A row twice in a batch, too.
    assert np.array_equal(pixels_of(corpus, ROWS[[4, 4]]), plain[[4, 4]])
    with pytest.raises(StoreError, match="missing"):
        pixels_of(corpus, np.array([1]))


def test_masks_are_copied_too(corpus: Corpus, copies: Path) -> None:
    rows = np.array([1, 2, 4])
    masks = Reader(corpus.store, index_table(corpus.manifest)).masks(rows)
    without_its_store(corpus)
    again = Reader(corpus.store, index_table(corpus.manifest)).masks(rows)
    assert np.array_equal(masks, again)


def test_a_copy_that_is_damaged_or_cut_off_or_of_another_ingest_is_fetched_anew(
    corpus: Corpus, copies: Path
) -> None:
    true = pixels_of(corpus)
    first, second, *_ = copied_files(copies)
    damaged = bytearray(first.read_bytes())
    damaged[80] ^= 1
    first.write_bytes(damaged)
    second.write_bytes(second.read_bytes()[:1000])
    assert np.array_equal(pixels_of(corpus), true)
    without_its_store(corpus)
    assert np.array_equal(pixels_of(corpus), true)


def test_a_damaged_shard_is_not_copied(corpus: Corpus, copies: Path) -> None:
    path = Path(corpus.store.full(shard_file("toy@1", 0)))
    damaged = bytearray(path.read_bytes())
    damaged[80] ^= 1
    path.write_bytes(damaged)
    with pytest.raises(StreamError, match="is damaged at byte 0"):
        pixels_of(corpus)
    assert all(file.name != path.name for file in copied_files(copies))


def test_readers_side_by_side_share_copies(corpus: Corpus, copies: Path) -> None:
    true, found = pixels_of(corpus), dict[int, np.ndarray]()
    for file in copied_files(copies):
        file.unlink()
    readers = [
        threading.Thread(target=lambda n=n: found.update({n: pixels_of(corpus)})) for n in range(6)
    ]
    for reader in readers:
        reader.start()
    for reader in readers:
        reader.join()
    assert len(found) == 6 and all(np.array_equal(one, true) for one in found.values())
    without_its_store(corpus)
    assert np.array_equal(pixels_of(corpus), true)


def test_a_disk_that_is_nearly_full_gets_no_copies_and_the_pixels_come_all_the_same(
    corpus: Corpus, copies: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("radsweep.corpus.copies.KEEP_FREE", 1.1)
    assert len(pixels_of(corpus)) == len(ROWS)
    assert copied_files(copies) == []


def test_a_disk_that_fails_is_told_and_the_pixels_come_all_the_same(
    corpus: Corpus, copies: Path, caplog: pytest.LogCaptureFixture
) -> None:
    pixels_of(corpus)
    for file in copied_files(copies):
        file.unlink()
        # Where a folder is, no user, root included, writes a file.
        file.mkdir()
    assert len(pixels_of(corpus)) == len(ROWS)
    assert caplog.text.count("no more is copied") == 1


def test_copies_are_for_the_eyes_of_their_user_alone(corpus: Corpus, copies: Path) -> None:
    pixels_of(corpus)
    (top,) = copies.iterdir()
    closed = [top, *copied_files(copies)]
    assert len(closed) > 2 and all(path.stat().st_mode & 0o077 == 0 for path in closed)


def test_a_path_that_depends_on_the_process_is_refused(
    corpus: Corpus, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(VARIABLE, "copies")
    with pytest.raises(StreamError, match="RADSWEEP_COPIES is copies; give the whole path"):
        pixels_of(corpus)


def test_a_folder_that_cannot_be_is_named(
    corpus: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv(VARIABLE, str(tmp_path / "file" / "copies"))
    with pytest.raises(StreamError, match=r"RADSWEEP_COPIES is .*where no folder can be made"):
        pixels_of(corpus)
