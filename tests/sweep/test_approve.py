"""What `submit` finds out, prices and asks before a job costs anything; no Ray runs here."""

import io
import json
import os
import pty
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import ray
import typer
from typer.testing import CliRunner

from radsweep.cli import app
from radsweep.commands.approve import keep_quoted, parse_run, quote, require_yes
from radsweep.errors import SpecError
from radsweep.specs import Recipe, Sweep
from radsweep.store import Store
from radsweep.store.cost import Cost
from radsweep.sweep.plan import make_plan, read_machine
from radsweep.sweep.tell import kept_price
from tests.evaluate.toy import write_cell
from tests.sweep.commands import environment
from tests.sweep.test_checks import card, store_with, sweep
from tests.sweep.test_resume import write_sweep

COST = Cost(flops_per_image=1e15, weight_bytes=10)


def cost_of(recipe: Recipe) -> Cost:
    return COST


def given(*options: str) -> dict[str, Any]:
    return parse_run(["sweep.py", *options])


def test_only_what_is_missing_is_priced_and_of_that_only_what_the_job_is_to_run(
    tmp_path: Path,
) -> None:
    store, asked = store_with(tmp_path, card()), sweep("clip", "dinov2")
    plan = make_plan(asked, store, read_machine("aws-p5-8xH100", None), cost_of)
    trained = [cell for cell in asked.cells() if not cell.is_baseline]
    one_usd = plan.total("usd") / len(trained)
    assert one_usd > 0
    whole = quote(asked, store, given("--machine", "aws-p5-8xH100"), cost_of)
    assert (whole.cells, whole.missing, whole.plan) == (4, 4, plan)
    assert whole.usd == whole.most_usd == pytest.approx(2 * one_usd)
    limited = given("--machine", "aws-p5-8xH100", "--max-usd", str(one_usd))
    assert quote(asked, store, limited, cost_of).most_usd == one_usd
    write_cell(store, trained[0], seed=1)
    rest = quote(asked, store, given("--machine", "aws-p5-8xH100"), cost_of)
    assert (rest.missing, rest.usd) == (3, pytest.approx(one_usd))
    glob = given("--machine", "aws-p5-8xH100", "--only", trained[0].name)
    done = quote(asked, store, glob, cost_of)
    assert (done.cells, done.missing, done.usd, done.device_hours) == (1, 0, 0, 0)


def test_a_plan_that_was_said_yes_to_prices_the_run_unless_another_was_kept(tmp_path: Path) -> None:
    store, asked = store_with(tmp_path, card()), sweep("clip")

    def price(*options: str) -> float | None:
        keep_quoted(quote(asked, store, given(*options), cost_of), options, asked, store)
        return kept_price(asked, store)

    def hour(machine: str) -> float:
        return read_machine(machine, None).usd(1.0)

    assert kept_price(asked, store) is None
    assert price() == hour("aws-g6e-1xL40S")
    assert price("--machine=aws-p5-8xH100") == hour("aws-p5-8xH100") != hour("aws-g6e-1xL40S")
    assert price() == hour("aws-p5-8xH100")


def test_a_store_that_cannot_be_written_from_here_keeps_no_plan_and_refuses_no_job(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store, asked = store_with(tmp_path, card()), sweep("clip")
    quoted = quote(asked, store, given(), cost_of)
    # A file where the folder would be: root may write anywhere else.
    (tmp_path / "sweeps").write_text("")
    keep_quoted(quoted, (), asked, store)
    assert "the plan was not kept, and the run will tell no money: " in capsys.readouterr().out


def test_weights_that_lie_on_the_cluster_alone_are_priced_and_said(tmp_path: Path) -> None:
    store = store_with(tmp_path, card())
    asked = sweep("clip")
    (recipe,) = asked.recipes
    there = Sweep(**{**vars(asked), "recipes": (_from(recipe, "/only/on/the/cluster"),)})
    quoted = quote(there, store, given(), cost_of)
    assert quoted.usd == quote(asked, store, given(), cost_of).usd > 0
    (said,) = quoted.remarks
    assert said.startswith("as seen from here: starts from /only/on/the/cluster")


def _from(recipe: Recipe, start: str) -> Recipe:
    return Recipe(**{**vars(recipe), "start_from": start})


REFUSED = [
    (("--machine", "aws-g6e"), "no machine 'aws-g6e' in the price table"),
    (("--prices", "nowhere.toml"), "there is no price table nowhere.toml"),
    (("--webhook", "example.org"), "give an http:// or https:// address"),
    (("--log-to", "nowhere"), "nowhere"),
    (("--stream-cpus", "16:2"), "'16:2' is no number of CPUs"),
    (("--keep-every-steps", "7"), "no multiple of --checkpoint-steps 200"),
    (("--watch-spot", "awss"), "no spot notices of 'awss'"),
    (("--cpus", "-1"), "greater than or equal to 0"),
    (("--max-usd", "0"), "max_usd is 0; give more than 0"),
    (("--only", "nothing*"), r"--only nothing\* names no cell; they are such as"),
]


@pytest.mark.parametrize(
    ("options", "said"),
    [*REFUSED, (("--workers", "5"), "a batch of 32 images is not 5 equal shares")],
)
def test_what_run_would_refuse_is_refused_here(
    tmp_path: Path, options: tuple[str, ...], said: str
) -> None:
    with pytest.raises((SpecError, typer.BadParameter), match=said):
        quote(sweep("clip"), store_with(tmp_path, card()), given(*options), cost_of)


@pytest.mark.parametrize(("options", "said"), REFUSED)
def test_run_refuses_it_too_before_it_looks_for_its_corpus(
    tmp_path: Path, options: tuple[str, ...], said: str
) -> None:
    file = write_sweep(tmp_path / "asked.py", '(recipe("clip"),)', steps=5)
    ran = CliRunner().invoke(app, ["run", str(file), "--store", str(tmp_path), *options])
    assert ran.exit_code and re.search(said, f"{ran.output} {ran.exception}".replace("\n", " "))


def test_options_that_run_does_not_know_are_refused_before_a_cluster_is_asked(
    tmp_path: Path,
) -> None:
    file = write_sweep(tmp_path / "asked.py", '(recipe("clip"),)', steps=5)
    command = ["submit", str(file), "--store", str(tmp_path), "--address", "http://127.0.0.1:1"]
    ran = CliRunner().invoke(app, [*command, "--", "--wrokers", "4"])
    assert ran.exit_code == 2
    assert "No such option: --wrokers" in ran.output


@pytest.mark.parametrize("status", [401, 403])
@pytest.mark.parametrize("command", ["submit", "stop"])
def test_a_cluster_that_asks_for_a_token_is_said_with_the_line_that_sends_one(
    command: str, status: int, tmp_path: Path
) -> None:
    file = write_sweep(tmp_path / "asked.py", '(recipe("clip"),)', steps=5)
    with answering(status) as address:
        options = ["--store", str(tmp_path)] if command == "submit" else []
        ran = CliRunner().invoke(app, [command, str(file), "--address", address, *options])
    assert isinstance(ran.exception, SpecError)
    assert "`export RAY_AUTH_MODE=token`" in str(ran.exception)


@contextmanager
def answering(status: int) -> Iterator[str]:
    """A dashboard that tells its version to anybody and all else to nobody; gives its address."""

    class Guarded(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            is_version = self.path == "/api/version"
            said = json.dumps({"ray_version": ray.__version__}).encode() if is_version else b"no"
            self.send_response(200 if is_version else status)
            self.send_header("Content-Length", str(len(said)))
            self.end_headers()
            self.wfile.write(said)

    with ThreadingHTTPServer(("127.0.0.1", 0), Guarded) as server:
        threading.Thread(target=server.serve_forever).start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()


def test_a_store_that_this_machine_cannot_read_is_said_with_the_way_round_it(
    tmp_path: Path,
) -> None:
    with pytest.raises(SpecError, match="is no folder of this machine; --no-plan submits"):
        quote(sweep("clip"), Store(str(tmp_path / "nfs")), given(), cost_of)
    locked = store_with(tmp_path, card())
    locked._fs = fsspec_without_rights()
    with pytest.raises(SpecError, match=r"cannot be read from here \(PermissionError.*--no-plan"):
        quote(sweep("clip"), locked, given(), cost_of)


def fsspec_without_rights() -> Any:
    """As a bucket answers whose keys this machine does not have; root may read any folder."""

    class Locked:
        protocol = "s3"

        def invalidate_cache(self) -> None:
            """Nothing is kept."""

        def info(self, path: str) -> None:
            raise PermissionError(f"Access Denied: {path}")

    return Locked()


def test_nobody_is_asked_below_the_limit_and_nothing_is_spent_above_it_without_a_terminal(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # pytest -s leaves the terminal where it is.
    monkeypatch.setattr("sys.stdin", io.StringIO())
    require_yes(50.0, 50.0)
    with pytest.raises(SpecError, match=r"50.01 USD are more than --ask-above-usd 50.*--yes"):
        require_yes(50.01, 50.0)


@pytest.mark.parametrize(("answer", "code"), [(b"y\n", 0), (b"n\n", 1), (b"\n", 1)])
def test_whoever_sits_at_the_terminal_is_asked_and_a_bare_return_is_a_no(
    answer: bytes, code: int, tmp_path: Path
) -> None:
    ours, theirs = pty.openpty()
    ask = (
        "import typer\nfrom radsweep.commands.approve import require_yes\n"
        "try:\n    require_yes(632.77, 50)\nexcept typer.Abort:\n    raise SystemExit(1)"
    )
    asked = subprocess.Popen(
        [sys.executable, "-c", ask], stdin=theirs, stdout=subprocess.PIPE, env=environment()
    )
    os.write(ours, answer)
    output, _ = asked.communicate(timeout=60)
    os.close(ours)
    os.close(theirs)
    assert asked.returncode == code
    assert b"spend 632.77 USD? [y/N]" in output
