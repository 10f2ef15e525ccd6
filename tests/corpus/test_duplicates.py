"""Near duplicates: copies are found, strangers are not, and the blocked search misses little."""

import csv
import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from radsweep.corpus.duplicates import LEAST_SIMILARITY, least_similarity, near_duplicates
from radsweep.corpus.fingerprint import FINGERPRINT_BYTES, fingerprints_of
from radsweep.corpus.phantom import HOSPITALS, render_image, sample_patient


def directions(films: int, seed: int = 0) -> np.ndarray:
    """Fingerprints of strangers that are somewhat alike: a few directions hold most."""
    spread = np.arange(1, FINGERPRINT_BYTES + 1) ** -0.55
    rows = np.random.default_rng(seed).standard_normal((films, FINGERPRINT_BYTES)) * spread
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def as_bytes(rows: np.ndarray) -> np.ndarray:
    return np.rint(rows * 127 / np.abs(rows).max(axis=1, keepdims=True)).astype(np.int8)


def phantom_films(patients: int, size: int = 128) -> list[np.ndarray]:
    hospital = HOSPITALS["riverside"]
    films = []
    for number in range(patients):
        exam = sample_patient(hospital, 0, number)[0]
        pixels, _ = render_image(exam, exam.views[0], hospital, size)
        films.append(np.rint(pixels * 255).astype(np.uint8))
    return films


def jpeg(film: np.ndarray) -> np.ndarray:
    buffer = io.BytesIO()
    Image.fromarray(film).save(buffer, "JPEG", quality=60)
    return np.asarray(Image.open(buffer))


def smaller(film: np.ndarray) -> np.ndarray:
    return np.asarray(Image.fromarray(film).resize((96, 96), Image.Resampling.BICUBIC))


@pytest.mark.parametrize("copy", [jpeg, smaller, np.invert])
def test_copies_of_phantom_films_are_told_from_other_phantoms(copy) -> None:
    films = phantom_films(24)
    copies = [copy(film) for film in films[:3]]
    fingerprints = fingerprints_of(films + copies)
    patients = np.arange(len(fingerprints))
    bar = least_similarity(fingerprints, patients)
    pairs = near_duplicates(fingerprints, patients, bar)
    assert set(zip(pairs.left.tolist(), pairs.right.tolist(), strict=True)) == {
        (0, 24),
        (1, 25),
        (2, 26),
    }


def test_a_constant_picture_resembles_nothing() -> None:
    fingerprints = fingerprints_of([np.full((80, 80), level, np.uint8) for level in (0, 90, 255)])
    assert not fingerprints.any()
    assert len(near_duplicates(fingerprints, np.arange(3), LEAST_SIMILARITY).left) == 0


def test_the_blocked_search_finds_what_comparing_all_pairs_finds() -> None:
    rows = directions(3_000)
    generator = np.random.default_rng(1)
    alike = generator.uniform(0.8, 1, 1_000)[:, None]
    other = directions(1_000, seed=2)
    sign = generator.choice([-1, 1], (1_000, 1))
    rows[2_000:] = sign * (alike * rows[:1_000] + np.sqrt(1 - alike**2) * other)
    fingerprints, patients = as_bytes(rows), np.arange(3_000)
    unit = fingerprints / np.linalg.norm(fingerprints.astype(float), axis=1, keepdims=True)
    similarity = np.triu(np.abs(unit @ unit.T), 1)
    expected = set(map(tuple, np.argwhere(similarity >= 0.93).tolist()))
    pairs = near_duplicates(fingerprints, patients, 0.93)
    found = set(zip(pairs.left.tolist(), pairs.right.tolist(), strict=True))
    assert len(expected) > 300
    assert found <= expected
    assert len(found) >= 0.99 * len(expected)
    assert np.allclose(pairs.similarity, similarity[pairs.left, pairs.right], atol=1e-5)
    assert (np.diff(pairs.similarity) <= 0).all()


def test_two_films_of_one_patient_are_no_pair() -> None:
    rows = as_bytes(np.concatenate([directions(50)] * 2))
    same = near_duplicates(rows, np.tile(np.arange(50), 2), 0.95)
    assert len(same.left) == 0
    other = near_duplicates(rows, np.arange(100), 0.95)
    assert sorted(zip(other.left, other.right, strict=True)) == [(n, n + 50) for n in range(50)]


def test_many_copies_of_one_film_hang_together() -> None:
    rows = as_bytes(np.concatenate([np.repeat(directions(1), 200, axis=0), directions(500, 3)]))
    pairs = near_duplicates(rows, np.arange(700), 0.95)
    group = {0}
    for _ in range(200):
        for one, two in zip(pairs.left.tolist(), pairs.right.tolist(), strict=True):
            if one in group or two in group:
                group |= {one, two}
        if len(group) == 200:
            break
    assert group == set(range(200))


def test_the_bar_foretells_how_alike_the_most_alike_strangers_are() -> None:
    films = as_bytes(directions(1_200, seed=5))
    unit = films / np.linalg.norm(films.astype(float), axis=1, keepdims=True)
    largest = np.triu(np.abs(unit @ unit.T), 1).max()
    bar = least_similarity(films, np.arange(1_200))
    assert largest < bar < 0.97
    assert least_similarity(films[:600], np.arange(600)) <= bar
    assert least_similarity(films, np.zeros(1_200, np.int64)) == LEAST_SIMILARITY


def test_real_films_hold_the_copies_that_are_known_and_no_pair_of_strangers(shared: Path) -> None:
    """NIH 00002658_001 and _002 are the same picture; some films come at 512 and at 64 pixels."""
    with (shared / "cxr" / "metadata.csv").open(newline="") as lines:
        rows = [
            row
            for row in csv.DictReader(lines)
            if row["part"] == "nih64"
            or (row["part"] == "nih512" and row["patient_id"] in ("nih:2658", "nih:211", "nih:61"))
        ]
    films = []
    for row in rows:
        with Image.open(shared / "cxr" / row["path"]) as image:
            films.append(np.asarray(image.convert("L")))
    fingerprints = fingerprints_of(films)
    names = {name: number for number, name in enumerate(sorted({r["patient_id"] for r in rows}))}
    patients = np.array([names[row["patient_id"]] for row in rows])
    bar = least_similarity(fingerprints, patients)
    assert len(near_duplicates(fingerprints, patients, bar).left) == 0
    pairs = near_duplicates(fingerprints, np.arange(len(rows)), 0.98)
    copies = {
        (Path(rows[one]["path"]).stem, Path(rows[two]["path"]).stem)
        for one, two in zip(pairs.left, pairs.right, strict=True)
    }
    assert ("00002658_001", "00002658_002") in copies
    others = copies - {("00002658_001", "00002658_002")}
    assert others
    assert all(one == two for one, two in others)
