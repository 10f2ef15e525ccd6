"""The phantom's pictures: what is drawn, what is masked, and what a hospital looks like."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.ndimage import label as connected

from radsweep.corpus.phantom import (
    DISTRACTORS,
    FINDINGS,
    HOSPITALS,
    TUBES,
    Exam,
    View,
    contact_sheet,
    render_image,
    sample_patient,
)
from radsweep.corpus.phantom.canvas import frame_of, spline
from radsweep.corpus.phantom.sample import POSITIONS
from radsweep.corpus.phantom.tubes import tip_of
from radsweep.errors import SpecError

RIVERSIDE = HOSPITALS["riverside"]
CROWDED = replace(RIVERSIDE, prevalence=dict.fromkeys([*FINDINGS, *TUBES, *DISTRACTORS], 0.9))


def films(hospital, patients, seed=0):
    for index in range(patients):
        for exam in sample_patient(hospital, seed, index):
            for view in exam.views:
                yield exam, view


def frontal(hospital, index=0) -> tuple[Exam, View]:
    exam = sample_patient(hospital, 0, index)[0]
    return exam, exam.views[0]


def test_a_film_is_the_same_however_often_it_is_drawn():
    exam, view = frontal(CROWDED)
    first, masks = render_image(exam, view, CROWDED, 96)
    again, masks_again = render_image(*frontal(CROWDED), CROWDED, 96)
    assert first.dtype == np.float32
    assert np.array_equal(first, again)
    assert masks.keys() == masks_again.keys()


def test_pixels_stay_in_range_and_use_it():
    for exam, view in films(CROWDED, 6):
        pixels, _ = render_image(exam, view, CROWDED, 64)
        assert pixels.shape == (64, 64)
        assert 0.0 <= pixels.min() < 0.15
        assert 0.75 < pixels.max() <= 1.0


@pytest.mark.parametrize("size", [64, 96, 256])
def test_masks_are_thin_connected_curves_that_end_at_the_tip(size):
    seen = set()
    for exam, view in films(CROWDED, 8):
        if not view.frontal:
            continue
        _, masks = render_image(exam, view, CROWDED, size)
        assert set(masks) == set(exam.tubes) & set(TUBES)
        for name, mask in masks.items():
            _, pieces = connected(mask, structure=np.ones((3, 3)))
            assert pieces == 1, (name, exam.tubes[name].position)
            assert 0 < mask.mean() < 0.06
            frame = frame_of(view, exam.anatomy.stature, size)
            x, y = frame.pixels(np.array(tip_of(exam.tubes[name], view)))
            rows, columns = np.nonzero(mask)
            distance = np.hypot(columns + 0.5 - x, rows + 0.5 - y)
            assert distance.min() < 1.5
            seen.add((name, exam.tubes[name].position))
    assert len(seen) >= 9


def test_an_endotracheal_mask_stops_where_its_tip_is():
    checked = 0
    for exam, view in films(CROWDED, 10):
        if view.frontal and exam.tubes.get("ett") is not None:
            _, masks = render_image(exam, view, CROWDED, 128)
            frame = frame_of(view, exam.anatomy.stature, 128)
            _, y = frame.pixels(np.array(tip_of(exam.tubes["ett"], view)))
            lowest = np.nonzero(masks["ett"])[0].max() + 1
            assert abs(lowest - y) < 2.5
            checked += 1
    assert checked >= 5


@pytest.mark.parametrize("name", [*FINDINGS, *TUBES, *DISTRACTORS])
def test_every_finding_and_tube_changes_the_picture_where_it_is(name):
    """Its own film with and without: the difference beats the noise at 96 px."""
    changes = []
    for exam, view in films(CROWDED, 12):
        kind = "findings" if name in FINDINGS else "tubes"
        there = getattr(exam, kind)
        if not view.frontal or name not in there:
            continue
        if name in FINDINGS:
            there = {**there, name: replace(there[name], magnitude=0.8)}
        with_it = replace(exam, findings={}, tubes={}, **{})
        without = with_it
        with_it = replace(with_it, **{kind: {name: there[name]}})
        quiet = replace(CROWDED, scanner=replace(CROWDED.scanner, quanta=1e9))
        a, _ = render_image(with_it, view, quiet, 96)
        b, _ = render_image(without, view, quiet, 96)
        changes.append(np.abs(a - b).max())
    assert len(changes) >= 5
    assert np.median(changes) > 0.08


def test_a_larger_magnitude_is_easier_to_see():
    exam, view = frontal(CROWDED, 2)
    quiet = replace(CROWDED, scanner=replace(CROWDED.scanner, quanta=1e9))
    none, _ = render_image(replace(exam, findings={}), view, quiet, 128)
    for name in ("effusion", "consolidation", "edema", "cardiomegaly"):
        sizes = []
        for magnitude in (0.1, 0.5, 0.9):
            finding = replace(exam.findings[name], magnitude=magnitude)
            some, _ = render_image(replace(exam, findings={name: finding}), view, quiet, 128)
            sizes.append(np.square(some - none).mean())
        assert sizes == sorted(sizes), name


def test_right_means_the_left_half_of_a_frontal_film():
    exam, view = frontal(CROWDED, 1)
    view = replace(view, tilt=0.0, centre_u_mm=0.0)
    quiet = replace(CROWDED, scanner=replace(CROWDED.scanner, quanta=1e9))
    none, _ = render_image(replace(exam, findings={}), view, quiet, 128)
    for side, half in (("right", 0), ("left", 1)):
        finding = replace(exam.findings["effusion"], side=side, magnitude=0.8)
        some, _ = render_image(replace(exam, findings={"effusion": finding}), view, quiet, 128)
        # The window moves a little everywhere; fluid changes a lot where it is.
        change = np.abs(some - none) > 0.2
        halves = change[:, :64].sum(), change[:, 64:].sum()
        assert halves[half] > 200
        assert halves[1 - half] < 20


def test_the_same_film_is_sampled_at_every_size():
    exam, view = frontal(CROWDED)
    # Tubes and findings are drawn stronger on small films, on purpose.
    exam = replace(exam, tubes={}, findings={})
    quiet = replace(CROWDED, scanner=replace(CROWDED.scanner, quanta=1e9))
    small, _ = render_image(exam, view, quiet, 64)
    large, _ = render_image(exam, view, quiet, 256)
    reduced = large.reshape(64, 4, 64, 4).mean(axis=(1, 3))
    assert np.corrcoef(small.ravel(), reduced.ravel())[0, 1] > 0.98


def test_a_lateral_is_a_picture_of_its_own():
    exam, view = frontal(RIVERSIDE)
    view = replace(view, marker=False, tilt=0.0, centre_u_mm=0.0, rotation_mm=0.0)
    exam = replace(exam, findings={}, tubes={})
    front, _ = render_image(exam, view, RIVERSIDE, 96)
    side, masks = render_image(exam, replace(view, name="LL"), RIVERSIDE, 96)
    assert not masks
    chest = slice(16, 62), slice(20, 76)
    mirrored = np.corrcoef(front[chest].ravel(), front[chest][:, ::-1].ravel())[0, 1]
    lateral = np.corrcoef(side[chest].ravel(), side[chest][:, ::-1].ravel())[0, 1]
    assert mirrored > lateral + 0.2
    assert np.corrcoef(front.ravel(), side.ravel())[0, 1] < 0.8


def test_exams_of_a_patient_look_more_alike_than_exams_of_two_patients():
    bare = [
        [replace(exam, findings={}, tubes={}) for exam in sample_patient(RIVERSIDE, 0, index)[:2]]
        for index in range(30)
    ]
    bare = [exams for exams in bare if len(exams) == 2][:6]
    assert all(a.anatomy == b.anatomy for a, b in bare)
    view = replace(bare[0][0].views[0], tilt=0.0)

    def film(exam):
        return render_image(exam, replace(view, key=exam.views[0].key), RIVERSIDE, 96)[0]

    for (first, second), (other, _) in zip(bare, bare[1:] + bare[:1], strict=True):
        same = np.square(film(first) - film(second)).mean()
        different = np.square(film(first) - film(other)).mean()
        assert same < 0.5 * different


def test_northside_differs_from_riverside_in_histogram_and_prevalence():
    counts, histograms = {}, {}
    for name, hospital in HOSPITALS.items():
        exams = [exam for index in range(400) for exam in sample_patient(hospital, 0, index)]
        counts[name] = {
            finding: np.mean([finding in exam.findings for exam in exams]) for finding in FINDINGS
        }
        pixels = [render_image(e, e.views[0], hospital, 64)[0] for e in exams[:25]]
        histograms[name] = np.histogram(np.stack(pixels), bins=16, range=(0, 1))[0] / len(pixels)
        for finding in FINDINGS:
            assert abs(counts[name][finding] - hospital.prevalence[finding]) < 0.06
    assert counts["northside"]["nodule"] > counts["riverside"]["nodule"] + 0.08
    assert counts["northside"]["cardiomegaly"] < counts["riverside"]["cardiomegaly"] - 0.04
    moved = np.abs(histograms["northside"] - histograms["riverside"]).sum() / 2 / 64**2
    assert moved > 0.15


@pytest.mark.parametrize(("decorrelated", "low", "high"), [(False, 0.35, 1.0), (True, -0.08, 0.08)])
def test_the_view_betrays_the_tubes_unless_the_hospital_is_decorrelated(decorrelated, low, high):
    hospital = replace(RIVERSIDE, decorrelated=decorrelated)
    exams = [exam for index in range(900) for exam in sample_patient(hospital, 0, index)]
    tubed = np.array([any(tube in exam.tubes for tube in TUBES) for exam in exams])
    ap = np.array([exam.views[0].name == "AP" for exam in exams])
    gap = ap[tubed].mean() - ap[~tubed].mean()
    assert low < gap < high
    for tube in TUBES:
        share = np.mean([tube in exam.tubes for exam in exams])
        assert abs(share - hospital.prevalence[tube]) < 0.04


def test_every_position_of_every_tube_occurs():
    seen = {
        (tube.name, tube.position)
        for index in range(300)
        for exam in sample_patient(RIVERSIDE, 0, index)
        for tube in exam.tubes.values()
    }
    wanted = {(name, place) for name, places in POSITIONS.items() for place, _ in places}
    assert wanted <= seen


def test_a_spline_goes_through_its_knots():
    knots = [(0.0, 0.0), (3.0, 1.0), (5.0, -2.0), (9.0, 4.0)]
    curve = spline(knots, 31)
    assert np.allclose(curve[::10], knots)


def test_a_contact_sheet_has_the_size_that_was_asked_for():
    sheet = contact_sheet(RIVERSIDE, 0, 3, 2, 64)
    assert sheet.size == (192, 128)
    assert np.asarray(sheet)[-64:, -64:].std() > 20


def test_impossible_requests_are_refused_with_the_value():
    exam, view = frontal(RIVERSIDE)
    with pytest.raises(SpecError, match="8 px"):
        render_image(exam, view, RIVERSIDE, 8)
    with pytest.raises(SpecError, match="-1"):
        sample_patient(RIVERSIDE, 0, -1)
    with pytest.raises(SpecError, match=r"edema is 1\.5"):
        replace(RIVERSIDE, prevalence={**RIVERSIDE.prevalence, "edema": 1.5})
    with pytest.raises(SpecError, match="hernia"):
        replace(RIVERSIDE, prevalence={**RIVERSIDE.prevalence, "hernia": 0.1})
