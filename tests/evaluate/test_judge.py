"""RadFact against a server that answers, fails, talks nonsense, or costs more than is allowed."""

import json
import logging
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from radsweep.cli import app
from radsweep.errors import SpecError
from radsweep.evaluate.clinical import clinical_scores
from radsweep.evaluate.judge import (
    ANSWER_TOKENS,
    FRAME_TOKENS,
    IN_A_ROW,
    KEY_VARIABLE,
    Endpoint,
    EndpointJudge,
)
from radsweep.store import Store
from radsweep.tasks.clinical import UnmeasuredError, measure_reports
from radsweep.tasks.radfact import CHUNK, RadFact
from tests.evaluate import toy
from tests.evaluate.judging import BREAK_OFF, Reply, Server, by_rule, serving, shares

TRUE = ["No effusion. Heart normal. Tube in place", "Large nodule", "No effusion", "Clear lungs"]
WRITTEN = ["No effusion. Heart large", "Large nodule. No effusion", "No effusion", ""]
HOST = "127.0.0.1"


def judge(store: Store, server: Server, **given: Any) -> EndpointJudge:
    endpoint = Endpoint(url=server.url, model="rules", **{"most_calls": 1000, **given})
    return EndpointJudge(store, endpoint, HOST)


@pytest.fixture
def empty(tmp_path: Path) -> Store:
    return Store(str(tmp_path / "answers"))


def test_shares_are_those_of_the_obvious_loop_and_the_numbers_are_radfact_s(empty: Store) -> None:
    with serving() as server:
        found = RadFact(judge(empty, server)).statistics(TRUE, WRITTEN)
        expected = np.array([shares(*pair) for pair in zip(TRUE, WRITTEN, strict=True)])
        np.testing.assert_allclose(found, expected)
        assert np.isnan(found[3, 0]) and found[3, 1] == 0
        weights = np.array([[1, 1, 1, 1], [0, 2, 0, 1]], dtype=np.uint16)
        rows, judged = measure_reports(
            RadFact(judge(empty, server)), TRUE, WRITTEN, np.array(["p", "p", "q", "r"]), weights
        )
    numbers = {row.metric: row.values for row in rows}
    precision, recall = np.mean([1 / 2, 1 / 2, 1]), np.mean([1 / 3, 1, 1, 0])
    assert numbers["radfact_precision by rules"] == pytest.approx([precision, 1 / 2])
    assert numbers["radfact_recall by rules"] == pytest.approx([recall, 2 / 3])
    f1 = 2 * precision * recall / (precision + recall)
    assert numbers["radfact_f1 by rules"][0] == pytest.approx(f1)
    assert (judged, rows[0].patients) == (4, 3)


def test_f1_is_0_where_no_fact_is_shared_and_missing_where_nothing_was_judged(
    empty: Store,
) -> None:
    with serving() as server:
        metric = RadFact(judge(empty, server))
    weights = np.ones((1, 2), dtype=np.uint16)
    assert metric.summary(np.zeros((2, 2)), weights)["radfact_f1 by rules"].tolist() == [0]
    nothing = metric.summary(np.full((2, 2), np.nan), weights)
    assert all(np.isnan(values).all() for values in nothing.values())


def test_each_question_is_asked_once_and_a_rerun_asks_nothing(empty: Store) -> None:
    with serving() as server:
        first = RadFact(judge(empty, server)).statistics(TRUE * 20, WRITTEN * 20)
        # The texts once, and two directions of three pairs, one of which is the same both ways.
        texts, directions = len({*TRUE, *WRITTEN} - {""}), 2 * 3 - 1
        assert len(server.bodies) == texts + directions
        assert all(body["temperature"] == 0 and body["max_tokens"] > 0 for body in server.bodies)
        again = judge(empty, server, most_calls=1)
        np.testing.assert_array_equal(RadFact(again).statistics(TRUE * 20, WRITTEN * 20), first)
        assert len(server.bodies) == texts + directions
        assert (again.calls, again.stopped) == (0, None)


def test_calls_that_fail_for_a_moment_are_made_again_and_counted(empty: Store) -> None:
    tries: Counter[str] = Counter()

    def busy(asked: str, given: dict[str, Any]) -> Reply:
        # Of each question by itself: several are asked side by side.
        question = asked + json.dumps(given)
        tries[question] += 1
        return (200, by_rule(asked, given)) if tries[question] == 3 else (429, None)

    with serving(busy) as server:
        one = judge(empty, server)
        found = RadFact(one).statistics(TRUE[:1], WRITTEN[:1])
    assert found.tolist() == [list(shares(TRUE[0], WRITTEN[0]))]
    assert (one.failed, one.calls, len(server.bodies)) == (0, 12, 12)


def test_what_fails_for_good_leaves_its_reports_out_and_is_counted(empty: Store) -> None:
    def picky(asked: str, given: dict[str, Any]) -> Reply:
        return (400, None) if "nodule" in json.dumps(given) else (200, by_rule(asked, given))

    with serving(picky) as server:
        one = judge(empty, server)
        found = RadFact(one).statistics(TRUE, WRITTEN)
    assert np.isnan(found[1]).all() and np.isfinite(found[[0, 2]]).all()
    assert (one.failed, one.unreadable, one.stopped) == (2, 0, None)
    assert "2 questions had none" in one.account


NONSENSE = ["I cannot help with that.", '{"phrases": 3}', '{"entailed": [true]}', "{", ""]


@pytest.mark.parametrize("text", [*NONSENSE, None])
def test_nonsense_is_counted_never_kept_and_never_a_score(empty: Store, text: str | None) -> None:
    with serving(lambda asked, given: (200, text)) as server:
        one = judge(empty, server)
        found = RadFact(one).statistics(TRUE[:2], WRITTEN[:2])
        assert np.isnan(found).all()
        assert (one.unreadable, one.failed) == (len({*TRUE[:2], *WRITTEN[:2]}), 0)
    with serving() as server:
        found = RadFact(judge(empty, server)).statistics(TRUE[:2], WRITTEN[:2])
    assert np.isfinite(found).all()


def test_verdicts_that_are_too_few_or_no_truth_values_leave_the_pair_out(empty: Store) -> None:
    def careless(asked: str, given: dict[str, Any]) -> Reply:
        return 200, '{"entailed": [1]}' if "phrases" in given else by_rule(asked, given)

    with serving(careless) as server:
        one = judge(empty, server)
        assert np.isnan(RadFact(one).statistics(TRUE[:3], WRITTEN[:3])).all()
    assert one.unreadable == 5


@pytest.mark.parametrize("tokens", [(900, 700), None])
def test_it_stops_before_its_money_is_spent_says_where_and_goes_on_from_there(
    empty: Store, tokens: tuple[int, int] | None
) -> None:
    pairs = CHUNK + 16
    true = [f"Finding {i}. Heart normal" for i in range(pairs)]
    written = [f"Finding {i}. Heart large" for i in range(pairs)]
    with serving(tokens=tokens) as server:
        given = {"most_usd": 0.5, "usd_per_million": (1.0, 2.0)}
        one = judge(empty, server, **given)
        with pytest.raises(UnmeasuredError, match=rf"\d+ of {pairs} reports were judged; .* 0.5"):
            RadFact(one).statistics(true, written)
        # Nobody counted: the most that a call can cost is taken, which ends the earlier.
        price = (900 * 1 + 700 * 2) / 1e6 if tokens else None
        assert 0.4 < one.usd <= 0.5
        assert one.calls == len(server.bodies)
        assert price is None or one.usd == pytest.approx(one.calls * price)
        if tokens is None:
            return
        done = one.calls
        found = RadFact(judge(empty, server, most_usd=9.0, usd_per_million=(1.0, 2.0)))
        expected = [shares(*pair) for pair in zip(true, written, strict=True)]
        np.testing.assert_allclose(found.statistics(true, written), expected)
        assert len(server.bodies) == 4 * pairs > done


def test_it_stops_at_its_number_of_calls_tries_again_included(empty: Store) -> None:
    with serving(lambda asked, given: (503, None)) as server:
        one = judge(empty, server, most_calls=5)
        with pytest.raises(UnmeasuredError, match="0 of 4 reports were judged; 5 calls were made"):
            RadFact(one).statistics(TRUE, WRITTEN)
    assert len(server.bodies) == one.calls == 5


def test_a_call_that_broke_off_counts_as_paid_at_the_most_that_it_can_cost(empty: Store) -> None:
    with serving(lambda asked, given: (BREAK_OFF, None)) as server:
        one = judge(empty, server, most_calls=1, most_usd=1.0, usd_per_million=(1.0, 2.0))
        with pytest.raises(UnmeasuredError, match="1 calls were made"):
            RadFact(one).statistics(TRUE[:1], TRUE[:1])
        texts = "".join(each["content"] for each in server.bodies[0]["messages"])
    assert one.usd == pytest.approx((len(texts) + FRAME_TOKENS + 2 * ANSWER_TOKENS) / 1e6)


def test_a_server_that_answers_nobody_is_asked_no_more(empty: Store) -> None:
    many = [f"Finding {i}" for i in range(CHUNK)]
    with serving(lambda asked, given: (400, None)) as server:
        one = judge(empty, server)
        said = rf"{IN_A_ROW} questions in a row had no answer \(last: status 400\)"
        with pytest.raises(UnmeasuredError, match=said):
            RadFact(one).statistics(many, many)
        assert len(server.bodies) < CHUNK


def test_a_host_that_is_not_reached_is_named_by_its_fault(
    empty: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("radsweep.evaluate.judge.PAUSES_SECONDS", ())
    with serving() as server:
        one = judge(empty, server)
    assert np.isnan(RadFact(one).statistics(["Finding"], ["Finding"])).all()
    assert "1 questions had none (last: ConnectionRefusedError)" in one.account


def test_a_judge_that_was_stopped_still_gives_what_is_kept_of_reports_without_phrases(
    empty: Store,
) -> None:
    true, written = ["No effusion", ""], ["No effusion", " "]
    with serving() as server:
        kept = RadFact(judge(empty, server)).statistics(true, written)
        one = judge(empty, server, most_calls=1)
        with pytest.raises(UnmeasuredError, match="0 of 1 reports were judged; 1 calls"):
            RadFact(one).statistics(["Large nodule"], ["Clear lungs"])
        found = RadFact(one).statistics(true, written)
        np.testing.assert_array_equal(found, kept)
        assert found[0].tolist() == [1, 1] and np.isnan(found[1]).all()
        with pytest.raises(UnmeasuredError, match="2 of 3 reports were judged"):
            RadFact(one).statistics([*true, "Large nodule"], [*written, "Clear lungs"])


@pytest.mark.parametrize("status", [401, 302, 307])
def test_a_refusal_or_another_host_ends_it_at_once(empty: Store, status: int) -> None:
    with serving(lambda asked, given: (status, None)) as server:
        one = judge(empty, server)
        with pytest.raises(UnmeasuredError, match=f"{HOST} refused with status {status}"):
            RadFact(one).statistics(TRUE, WRITTEN)
        assert len(server.bodies) <= 8


def test_the_key_is_sent_and_neither_written_nor_logged_nor_are_reports(
    empty: Store, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv(KEY_VARIABLE, "sesame-5511")
    caplog.set_level(logging.DEBUG)
    with serving() as server:
        one = judge(empty, server)
        RadFact(one).statistics(TRUE, WRITTEN)
    assert set(server.keys) == {"Bearer sesame-5511"}
    kept = [file.read_text() for file in Path(empty.url).rglob("*.json")]
    assert len(kept) == one.calls
    for text in (*kept, one.account, str(vars(one)), caplog.text):
        assert "sesame" not in text
    assert "effusion" not in caplog.text + one.account


def test_without_leave_for_that_very_host_nothing_is_sent(empty: Store) -> None:
    away = {"url": "https://api.example.org/v1", "model": "m", "most_calls": 9}
    for send_to in (None, "example.org"):
        with pytest.raises(
            SpecError, match=r"to api\.example\.org; .*--send-reports-to api\.example"
        ):
            EndpointJudge(empty, Endpoint(**away), send_to)
    with pytest.raises(SpecError, match="unencrypted"):
        plain = {**away, "url": "http://api.example.org/v1"}
        EndpointJudge(empty, Endpoint(**plain), "api.example.org")
    with pytest.raises(SpecError, match="give an address such as"):
        EndpointJudge(empty, Endpoint(**{**away, "url": "api.example.org"}), "api.example.org")
    with pytest.raises(SpecError, match="give both, or neither"):
        EndpointJudge(empty, Endpoint(**away, most_usd=5.0), "api.example.org")
    for model in ("", " "):
        with pytest.raises(SpecError, match="--judge-model is empty"):
            EndpointJudge(empty, Endpoint(**{**away, "model": model}), "api.example.org")


def test_it_is_asked_for_on_the_command_line(scored: Store, tmp_path: Path) -> None:
    file = tmp_path / "toy_sweep.py"
    file.write_text("from tests.evaluate.toy import sweep\n\nSWEEP = sweep()\n")
    with serving() as server:
        asked = ["scores", str(file), "--store", scored.url, "--report-metric", "radfact"]
        asked += ["--judge-url", server.url, "--judge-model", "rules"]
        refused = CliRunner().invoke(app, asked)
        assert isinstance(refused.exception, SpecError) and server.bodies == []
        asked += ["--send-reports-to", HOST]
        short = CliRunner().invoke(app, [*asked, "--judge-calls", "3"])
        assert short.exit_code == 1 and "0 of 60 reports were judged" in short.stdout
        short = CliRunner().invoke(app, [*asked, "--judge-calls", "3", "--json"])
        said = " ".join(short.stderr.split())
        assert short.exit_code == 1 and "of 60 reports were judged; 3 calls were made" in said
        assert "rules at 127.0.0.1: 3 calls" in said
        assert not [row for row in json.loads(short.stdout) if row["metric"].startswith("radfact")]
        ran = CliRunner().invoke(app, [*asked, "--json"], catch_exceptions=False)
        assert ran.exit_code == 0 and "rules at 127.0.0.1" in " ".join(ran.stderr.split())
        text = CliRunner().invoke(app, asked, catch_exceptions=False).stdout
        rows, faults = clinical_scores(
            scored, toy.sweep(), toy.sweep().cells(), RadFact(judge(scored, server))
        )
    assert faults == [] and rows.height == 3 * len(toy.sweep().cells())
    found = [row for row in json.loads(ran.stdout) if row["metric"].startswith("radfact")]
    assert [row["value"] for row in found] == rows["value"].to_list()
    assert {row["n_test"] for row in found} == {60}
    assert "rules at 127.0.0.1: 0 calls" in " ".join(text.split())
