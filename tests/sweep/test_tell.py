"""What a run tells others: the webhook at its end, and the lines of its journal."""

import dataclasses
import http.server
import json
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from radsweep.cli import app
from radsweep.errors import SpecError
from radsweep.specs import Cell
from radsweep.store import Store
from radsweep.store.record import CellStore
from radsweep.sweep import tell
from radsweep.sweep.load import load_sweep
from radsweep.sweep.run import Outcome
from radsweep.sweep.tell import Bill, check_webhook, journal, outcome_message, post
from tests.evaluate.toy import sweep, write_cell
from tests.sweep.test_resume import write_sweep

CELLS = sweep().cells()


class Hook(http.server.BaseHTTPRequestHandler):
    """Keeps what it is sent and answers as it is told to."""

    taken: list[tuple[str, dict]] = []  # noqa: RUF012
    answer = 204

    def do_POST(self) -> None:
        sent = self.rfile.read(int(self.headers["Content-Length"]))
        self.taken.append((self.headers["Content-Type"], json.loads(sent)))
        self.send_response(self.answer)
        self.end_headers()

    def log_message(self, *given: object) -> None:
        """Silence."""


@pytest.fixture
def hook(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.setattr(Hook, "taken", [])
    server = http.server.HTTPServer(("127.0.0.1", 0), Hook)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/done"
    server.shutdown()
    thread.join()
    server.server_close()


class Quiet:
    """An observer that counts what it is told."""

    told = 0

    def cells(self, cells: tuple[Cell, ...], done: int) -> None:
        self.told += 1

    def cell_began(self, cell: Cell) -> None:
        self.told += 1

    def cell_ended(self, cell: Cell, state: str, reason: str | None) -> None:
        self.told += 1

    def grid(self, done: int, total: int) -> None:
        self.told += 1


def outcome(*failures: tuple[str, str]) -> Outcome:
    return Outcome(trained=(CELLS[-1].name,), failures=failures, scores=7)


def test_the_webhook_is_sent_names_and_figures_and_no_reasons(hook: str, tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    write_cell(store, CELLS[-1], seed=1)
    corner = CellStore(store, CELLS[-1].name)
    on_gpus = dataclasses.replace(corner.record(), seconds=1800, workers=4, gpu_seconds=7200)
    corner.finish(on_gpus)
    failed = outcome(("clip-other", "failed: the words of an exception"))
    message = outcome_message(sweep(), store, failed)
    assert message["process_hours"] == pytest.approx(2.0) and message["usd"] is None
    store.write_json(f"sweeps/{sweep().name}.plan.json", {"usd_per_device_hour": 3.5})
    message = outcome_message(sweep(), store, failed)
    assert message["usd"] == pytest.approx(7.0)
    assert post(hook, message) is None
    ((kind, sent),) = Hook.taken
    assert kind == "application/json" and sent == message
    assert sent["failed"] == ["clip-other"] and sent["is_complete"] is False
    assert sent["trained"] == [CELLS[-1].name] and sent["score_rows"] == 7
    assert "exception" not in json.dumps(sent)
    # Hours of CPUs have no price in a plan of GPUs.
    corner.finish(dataclasses.replace(on_gpus, gpu_seconds=0.0))
    assert outcome_message(sweep(), store, outcome())["usd"] is None


def test_what_finished_cells_took_is_told_as_each_ends_where_there_is_a_price(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[tuple[str, float]] = []
    monkeypatch.setattr(tell, "tell_spent", lambda *said: told.append(said))
    store, then = Store(str(tmp_path)), Quiet()
    now, before = CELLS[-1], CELLS[0]
    for cell, hours in ((before, 2.0), (now, 0.5)):
        write_cell(store, cell, seed=1)
        corner = CellStore(store, cell.name)
        corner.finish(dataclasses.replace(corner.record(), gpu_seconds=3600 * hours))
    free = Bill(sweep(), store, then)
    free.cell_ended(now, "done", None)
    assert told == [] and then.told == 1
    store.write_json(f"sweeps/{sweep().name}.plan.json", {"usd_per_device_hour": 3.5})
    store.delete(f"cells/{now.name}/DONE")
    bill = Bill(sweep(), store, then)
    store.write_bytes(f"cells/{now.name}/DONE", b"")
    bill.cell_ended(now, "done", None)
    bill.cell_ended(before, "failed", "a reason")
    assert told == [(sweep().name, pytest.approx(2.5 * 3.5))]
    assert then.told == 3


def test_a_webhook_that_refuses_or_is_not_there_is_told_and_not_raised(
    hook: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Hook, "answer", 500)
    assert "500" in str(post(hook, {"sweep": "x"}))
    assert "refused" in str(post("http://127.0.0.1:1/", {"sweep": "x"}))


@pytest.mark.parametrize("url", ["file:///etc/passwd", "example.org", "http://"])
def test_what_cannot_be_posted_to_is_refused_before_the_run(url: str) -> None:
    with pytest.raises(SpecError, match="give an http:// or https:// address"):
        check_webhook(url)
    check_webhook("https://example.org/hook")


def test_run_tells_the_webhook_and_the_journal(
    hook: str, new_store: Callable[[], Store], tmp_path: Path
) -> None:
    store, events = new_store(), tmp_path / "events.jsonl"
    file = write_sweep(tmp_path / "told.py", '(recipe("clip"),)', steps=5)
    cells = load_sweep(str(file)).cells()
    for seed, cell in enumerate(cells):
        write_cell(store, cell, seed=seed)
    given = ["run", str(file), "--store", store.url, "--log-json", str(events), "--webhook"]
    ran = CliRunner().invoke(app, [*given, hook], catch_exceptions=False)
    assert ran.exit_code == 0, ran.output
    ((_, sent),) = Hook.taken
    assert sent["sweep"] == "told" and sent["is_complete"] and sent["trained"] == []
    (line,) = [json.loads(line) for line in events.read_text().splitlines()]
    assert line["event"] == "run_began" and line["done_before"] == len(cells)
    # A webhook that nobody answers is a warning, and no failed run.
    ran = CliRunner().invoke(app, [*given, "http://127.0.0.1:1/"], catch_exceptions=False)
    assert ran.exit_code == 0 and "the webhook was not told" in ran.output
    with pytest.raises(SpecError, match="give an http:// or https:// address"):
        CliRunner().invoke(app, [*given, "nonsense"], catch_exceptions=False)


def test_each_event_is_one_line_with_the_cells_name_and_is_passed_on(tmp_path: Path) -> None:
    file, then = tmp_path / "events.jsonl", Quiet()
    with journal("toy", file, then) as observer:
        observer.cells(CELLS, 2)
        observer.cell_began(CELLS[0])
        observer.cell_ended(CELLS[0], "failed", "two\nlines")
        # Whoever follows the file sees it now.
        assert len(file.read_text().splitlines()) == 3
        observer.grid(1, 4)
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    assert [line["event"] for line in lines] == [
        "run_began",
        "cell_began",
        "cell_ended",
        "evaluated",
    ]
    assert {line["sweep"] for line in lines} == {"toy"}
    assert lines[1]["cell"] == lines[2]["cell"] == CELLS[0].name
    assert lines[2]["state"] == "failed" and lines[2]["reason"] == "two\nlines"
    assert then.told == 4
    with journal("toy", None, then) as observer:
        assert observer is then
    # Another run goes on in the same file.
    with journal("toy", file, then) as observer:
        observer.cells(CELLS, 3)
    assert len(file.read_text().splitlines()) == 5
