"""The phantom's words: reports, labels and the latent record say the same."""

import re
from dataclasses import replace

import numpy as np
import pytest

from radsweep.corpus.phantom import FINDINGS, HOSPITALS, TUBES, sample_patient
from radsweep.corpus.phantom.identity import identity_of
from radsweep.corpus.phantom.labels import labels_of
from radsweep.corpus.phantom.reports import BANKS, compose, is_held_out
from radsweep.errors import SpecError

BOTH = pytest.mark.parametrize("name", sorted(HOSPITALS))

FILLERS = {
    "side": "(?i:right|left|bilateral)",
    "size": "(?i:small|moderate|large)",
    "degree": "(?i:mild|moderate|marked)",
    "zone": "(?:upper|mid|lower)",
}


def reports(hospital, patients=250):
    for index in range(patients):
        for exam in sample_patient(hospital, 0, index):
            yield exam, compose(exam, hospital, identity_of(hospital, exam))


def pattern(templates):
    """A regex that matches any of the templates with any of the words that fill its braces."""
    bodies = [
        re.sub(r"\\\{(\w+)\\\}", lambda brace: FILLERS[brace[1].lower()], re.escape(template))
        for template in templates
    ]
    return re.compile(r"(?:^|(?<=[.] ))(?:" + "|".join(bodies) + r")(?= |$)")


def rules(bank):
    """Finding -> stance -> regex, read back from the templates alone."""
    read = {}
    for name, phrases in bank.findings.items():
        denials = phrases.negative + phrases.reserved_negative
        if name in ("effusion", "pneumothorax"):
            denials += bank.clear_pleura
        if name in ("consolidation", "nodule", "edema", "atelectasis"):
            denials += bank.clear_lungs
        read[name] = {
            "negative": pattern(denials),
            "positive": pattern(phrases.positive + phrases.reserved_positive),
            "uncertain": pattern(phrases.uncertain + phrases.reserved_uncertain),
        }
    return read


@BOTH
def test_labels_agree_with_what_a_rule_reads_in_the_report(name):
    hospital = HOSPITALS[name]
    read = rules(BANKS[hospital.wording])
    allowed = {"negative": {"0", ""}, "positive": {"1", ""}, "uncertain": {"-1", "0", "1", ""}}
    counts = dict.fromkeys(allowed, 0)
    for exam, report in reports(hospital):
        for finding, stances in read.items():
            found = [stance for stance, regex in stances.items() if regex.search(report.findings)]
            assert len(found) <= 1, (finding, report.findings)
            expected = [] if report.stated[finding] == "unsaid" else [report.stated[finding]]
            assert found == expected, (finding, report.findings)
            for view in exam.views:
                label = labels_of(exam, view)[f"finding_{finding}"]
                if found:
                    assert label in allowed[found[0]], (finding, label, report.findings)
                    counts[found[0]] += 1
    assert min(counts.values()) > 50


@BOTH
def test_an_impression_never_calls_a_finding_normal(name):
    hospital = HOSPITALS[name]
    normal = BANKS[hospital.wording].normal
    seen = 0
    for exam, report in reports(hospital):
        if report.impression in normal:
            assert not exam.findings
            seen += 1
    assert seen > 10


@BOTH
def test_about_three_negatives_in_five_are_stated(name):
    stances = [
        report.stated[finding]
        for exam, report in reports(HOSPITALS[name])
        for finding in FINDINGS
        if finding not in exam.findings and finding not in exam.hedged
    ]
    assert set(stances) == {"negative", "unsaid"}
    assert 0.55 < np.mean([stance == "negative" for stance in stances]) < 0.65


def test_labels_are_the_truth_but_for_doubts_and_holes():
    holes, total, doubts = 0, 0, 0
    for exam, _ in reports(HOSPITALS["riverside"]):
        for view in exam.views:
            for column, label in labels_of(exam, view).items():
                kind, short = column.split("_", 1)
                truth = short in (exam.findings if kind == "finding" else exam.tubes)
                total += 1
                holes += label == ""
                doubts += label == "-1"
                if label == "-1":
                    assert short in exam.hedged
                elif label:
                    assert label == str(int(truth))
    assert 0.02 < holes / total < 0.04
    assert doubts > 20


def test_reserved_paraphrases_are_read_by_held_out_patients_only():
    hospital = HOSPITALS["riverside"]
    bank = BANKS["riverside"]
    common = pattern([t for p in bank.findings.values() for t in p.positive])
    reserved = pattern([t for p in bank.findings.values() for t in p.reserved_positive])
    seen = {True: 0, False: 0}
    for exam, report in reports(hospital):
        held_out = is_held_out(exam)
        seen[held_out] += 1
        assert not (common if held_out else reserved).search(report.findings)
    assert 0.1 < seen[True] / sum(seen.values()) < 0.3


def test_hospitals_share_hardly_any_sentence():
    said = {}
    for name, bank in BANKS.items():
        said[name] = {t for p in bank.findings.values() for t in p.positive + p.negative}
    shared = said["riverside"] & said["northside"]
    assert len(shared) <= 4


def test_sentences_are_short_enough_for_a_text_encoder():
    lengths = [
        len(re.findall(r"\w+|[^\w\s]", report.findings))
        for _, report in reports(HOSPITALS["riverside"])
    ]
    assert np.percentile(lengths, 90) < 77


def test_a_tube_that_is_told_is_there_and_a_denied_one_is_not():
    told = 0
    for exam, report in reports(HOSPITALS["riverside"]):
        for tube in TUBES:
            if report.stated[tube] == "positive":
                assert tube in exam.tubes
                told += 1
            if report.stated[tube] == "negative":
                assert tube not in exam.tubes
    assert told > 100


def test_headers_hold_the_planted_identifiers_and_the_findings_do_not_name_the_patient():
    for exam, report in reports(HOSPITALS["riverside"], 40):
        identity = identity_of(HOSPITALS["riverside"], exam)
        planted = identity.planted()
        assert any(text in report.text for text in planted)
        assert identity.family not in report.findings
        assert f"{identity.family}, {identity.given}" in report.text


def test_a_patients_name_and_number_stay_while_accessions_and_dates_change():
    hospital = HOSPITALS["riverside"]
    exams = next(e for i in range(50) if len(e := sample_patient(hospital, 0, i)) >= 3)
    identities = [identity_of(hospital, exam) for exam in exams]
    assert len({(i.family, i.given, i.patient_id, i.birth, i.address) for i in identities}) == 1
    assert len({i.accession for i in identities}) == len(exams)
    assert [i.taken for i in identities] == sorted({i.taken for i in identities})
    assert identities[1].previous == identities[0].taken


def test_an_unknown_wording_is_refused_with_the_known_ones():
    hospital = replace(HOSPITALS["riverside"], wording="southside")
    exam = sample_patient(hospital, 0, 0)[0]
    with pytest.raises(SpecError, match="northside"):
        compose(exam, hospital, identity_of(hospital, exam))
