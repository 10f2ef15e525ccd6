import numpy as np
import torch

from radsweep.probes.base import SharedSpace
from radsweep.probes.retrieval import ranks


def _by_hand(space: SharedSpace) -> np.ndarray:
    """A rank for every image and way, by looking at one pair at a time."""
    found = []
    for image, own in enumerate(space.report_of):
        right = float(space.images[image] @ space.reports[own])
        to_report = 1.0
        for report, vector in enumerate(space.reports):
            other = float(space.images[image] @ vector)
            if report != own:
                to_report += 1.0 if other > right + 1e-6 else 0.5 if other > right - 1e-6 else 0.0
        best = max(
            float(space.images[i] @ space.reports[own])
            for i in range(len(space.images))
            if space.report_of[i] == own
        )
        to_image = 1.0
        for i, vector in enumerate(space.images):
            other = float(vector @ space.reports[own])
            if space.report_of[i] != own:
                to_image += 1.0 if other > best + 1e-6 else 0.5 if other > best - 1e-6 else 0.0
        found.append((to_report, to_image))
    return np.array(found)


def _space(images: int, reports: int, seed: int) -> SharedSpace:
    generator = np.random.default_rng(seed)
    report_of = np.concatenate([np.arange(reports), generator.integers(0, reports, images)])
    # Few directions, so that many cosines are equal.
    corners = np.array([[1, 0], [0, 1], [-1, 0], [0, -1], [0.6, 0.8]], np.float32)
    return SharedSpace(
        images=corners[generator.integers(0, 5, len(report_of))],
        reports=corners[generator.integers(0, 5, reports)],
        report_of=report_of,
    )


def test_ranks_equal_a_loop_over_pairs_with_ties_and_repeated_reports() -> None:
    for seed in range(5):
        space = _space(40, 12, seed)
        np.testing.assert_array_equal(ranks(space, torch.device("cpu")), _by_hand(space))


def test_any_image_of_a_repeated_report_is_a_right_answer() -> None:
    unit = np.eye(3, dtype=np.float32)
    # Report 0 has two images: one of them lies on it, the other on report 1.
    space = SharedSpace(
        images=unit[[0, 1, 1]], reports=unit[:2], report_of=np.array([0, 0, 1], np.int64)
    )
    found = ranks(space, torch.device("cpu"))
    assert found[:, 1].tolist() == [1.0, 1.0, 1.5]
    assert found[:, 0].tolist() == [1.0, 2.0, 1.0]


def test_more_reports_than_are_worked_on_at_once_are_all_ranked() -> None:
    generator = np.random.default_rng(0)
    vectors = generator.standard_normal((1100, 8)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    space = SharedSpace(images=vectors, reports=vectors[::-1].copy(), report_of=np.arange(1100))
    cosines = vectors @ vectors[::-1].T
    expected = 1 + (cosines > np.diagonal(cosines)[:, None]).sum(axis=1)
    np.testing.assert_array_equal(ranks(space, torch.device("cpu"))[:, 0], expected)
