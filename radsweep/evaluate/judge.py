"""A language model behind an OpenAI-compatible endpoint, asked within a cap; answers are kept.

What is asked holds the text of reports, which so leaves for the endpoint's host: nothing is sent
unless that host was named once more for this purpose. The key comes from ``RADSWEEP_JUDGE_KEY`` and
is neither written nor shown; nor is what was asked or answered, save the answer in the store.
"""

import http.client
import json
import logging
import os
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, final

from radsweep import __version__
from radsweep.errors import SpecError
from radsweep.keys import key_of
from radsweep.store import Store
from radsweep.tasks import radfact
from radsweep.tasks.radfact import Question

LOGGER = logging.getLogger(__name__)
KEY_VARIABLE = "RADSWEEP_JUDGE_KEY"
AT_ONCE = 8
ANSWER_SECONDS = 120.0
ANSWER_TOKENS = 2048
"""Of one answer at most: a long report has about 30 phrases."""
FRAME_TOKENS = 256
"""More than a chat's frame adds to its texts."""
PAUSES_SECONDS = (1.0, 4.0, 16.0)
"""Between tries of what may pass: the host is busy, or was not reached."""
LONGEST_PAUSE_SECONDS = 60.0
PASSING = {408, 409, 425, 429, 500, 502, 503, 504}
REFUSED = {301, 302, 303, 307, 308, 401, 402, 403, 404, 405}
"""What every further question would be told as well."""
IN_A_ROW = 20
"""Failed calls after which no more are made."""
HERE = {"localhost", "127.0.0.1", "::1"}


@final
@dataclass(frozen=True, kw_only=True)
class Endpoint:
    """Whom to ask, and how much of it."""

    url: str
    """Base of the API, such as ``https://api.example.org/v1``."""
    model: str
    most_calls: int
    """Requests, tries again included."""
    most_usd: float | None = None
    """None where a call costs nothing."""
    usd_per_million: tuple[float, float] = (0.0, 0.0)
    """Of tokens read, and of tokens written."""

    @property
    def host(self) -> str:
        """Where the text goes."""
        return urllib.parse.urlsplit(self.url).hostname or ""

    def check(self, send_to: str | None) -> None:
        """Raise SpecError for what cannot be asked, or may not: ``send_to`` must be the host."""
        scheme = urllib.parse.urlsplit(self.url).scheme
        if not self.host or scheme not in ("http", "https"):
            raise SpecError(f"--judge-url is {self.url!r}; give an address such as https://HOST/v1")
        if scheme == "http" and self.host not in HERE:
            raise SpecError(
                f"--judge-url {self.url} would carry reports unencrypted; take https, or a tunnel "
                "that ends on this machine (ssh -L)"
            )
        if not self.model.strip():
            raise SpecError("--judge-model is empty; give the name that the endpoint knows it by")
        if self.most_calls < 1 or (self.most_usd is not None and self.most_usd <= 0):
            raise SpecError(
                f"--judge-calls {self.most_calls} and --judge-usd {self.most_usd} must be above 0"
            )
        if (self.most_usd is None) != (max(self.usd_per_million) <= 0):
            raise SpecError(
                f"--judge-usd is {self.most_usd} and --judge-prices {self.usd_per_million}: give "
                "both, or neither where a call costs nothing"
            )
        if send_to != self.host:
            raise SpecError(
                f"this sends the text of true and written reports to {self.host}; scrubbing of "
                "text is never perfect. If your hospital allows that host to read them, add "
                f"--send-reports-to {self.host}" + (f" (not {send_to})" if send_to else "")
            )


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """The host that was named, and no other."""

    def redirect_request(self, *_: Any, **__: Any) -> None:
        """An error with the status, as without a handler."""


@final
class EndpointJudge:
    """Asks many questions side by side; see ``radfact.Judge``."""

    def __init__(self, store: Store, endpoint: Endpoint, send_to: str | None) -> None:
        """Asks nothing yet.

        Args:
            store: where answers are kept, by the model's name and the question.
            endpoint: whom to ask.
            send_to: host that the user lets the text go to.

        Raises SpecError as ``Endpoint.check`` does.
        """
        endpoint.check(send_to)
        self.model = endpoint.model
        self.stopped: str | None = None
        self.calls = self.kept = self.failed = self.unreadable = 0
        self.usd = 0.0
        self._store, self._endpoint = store, endpoint
        self._folder = f"judged/{key_of([radfact.VERSION, endpoint.model], length=16)}"
        self._known: set[str] | None = None
        self._in_flight, self._reserved_usd, self._failed_in_a_row = 0, 0.0, 0
        self._last_fault = ""
        self._change = threading.Condition()
        handlers: list[urllib.request.BaseHandler] = [_NoRedirect()]
        if endpoint.host in HERE:
            # A proxy would be another host, and read what is not encrypted.
            handlers.append(urllib.request.ProxyHandler({}))
        self._opener = urllib.request.build_opener(*handlers)

    def ask(self, questions: Sequence[Question]) -> list[list[Any] | None]:
        """See ``radfact.Judge``; a question that comes twice is asked once."""
        if self._known is None:
            self._known = set(self._store.names(self._folder))
        once = list(dict.fromkeys(questions))
        with ThreadPoolExecutor(AT_ONCE) as pool:
            answers = dict(zip(once, pool.map(self._answer, once), strict=True))
        return [answers[question] for question in questions]

    @property
    def account(self) -> str:
        """What was asked so far and what came of it, in a sentence."""
        spent = f", {self.usd:.4f} USD" if self._endpoint.most_usd is not None else ""
        last = f" (last: {self._last_fault})" if self.failed else ""
        return (
            f"{self.model} at {self._endpoint.host}: {self.calls} calls{spent}; {self.kept} "
            f"answers were in the store, {self.failed} questions had none{last}, "
            f"{self.unreadable} had one that could not be read; their reports are left out"
        )

    def _answer(self, question: Question) -> list[Any] | None:
        name = f"{key_of([question.instructions, question.given], length=32)}.json"
        path = f"{self._folder}/{name}"
        assert self._known is not None
        if name in self._known:
            with self._change:
                self.kept += 1
            return question.read(self._store.read_json(path)["answer"])
        text = self._text(question)
        answer = None if text is None else question.read(text)
        if answer is not None:
            self._store.write_json(path, {"answer": text, "model": self.model})
            self._known.add(name)
        elif text is not None:
            with self._change:
                self.unreadable += 1
        return answer

    def _text(self, question: Question) -> str | None:
        """What the model wrote, after as many tries as it takes; None where it did not."""
        messages = [
            {"role": "system", "content": question.instructions},
            {"role": "user", "content": question.given},
        ]
        body = {"model": self.model, "messages": messages, "temperature": 0}
        data = json.dumps(body | {"max_tokens": ANSWER_TOKENS}).encode()
        # No token is less than a byte of text.
        least = sum(len(each["content"].encode()) for each in messages) + FRAME_TOKENS
        most_usd = self._price(least, ANSWER_TOKENS)
        for pause in (*PAUSES_SECONDS, None):
            if not self._reserve(most_usd):
                return None
            # Until it is known to be less: what was not answered may have been charged.
            usd, reply, code, asked, said = most_usd, None, None, "", ""
            try:
                reply = self._post(data)
                usd = self._used(reply, most_usd)
            except urllib.error.HTTPError as fault:
                usd, code, asked = 0.0, fault.code, fault.headers.get("Retry-After", "")
                said = f"status {code}"
                fault.close()
            except (OSError, http.client.HTTPException, ValueError) as fault:
                inner = fault.reason if isinstance(fault, urllib.error.URLError) else fault
                said = type(inner).__name__
                LOGGER.info("%s: %s", self._endpoint.host, said)
            self._settle(most_usd, usd)
            if reply is not None:
                self._failed_in_a_row = 0
                return _written(reply)
            if code in REFUSED:
                self._stop(
                    f"{self._endpoint.host} refused with status {code}: check {KEY_VARIABLE}, "
                    "--judge-url and --judge-model"
                )
            if pause is None or (code is not None and code not in PASSING):
                break
            # As long as the host asks for, if it does.
            time.sleep(min(LONGEST_PAUSE_SECONDS, float(asked)) if asked.isdigit() else pause)
        with self._change:
            self.failed += 1
            self._failed_in_a_row += 1
            self._last_fault = said
            if self._failed_in_a_row >= IN_A_ROW:
                self._stop(f"{IN_A_ROW} questions in a row had no answer (last: {said})")
        return None

    def _post(self, data: bytes) -> Any:
        key = os.environ.get(KEY_VARIABLE)
        request = urllib.request.Request(
            f"{self._endpoint.url.rstrip('/')}/chat/completions",
            data=data,
            headers={"Content-Type": "application/json", "User-Agent": f"radsweep/{__version__}"}
            | ({"Authorization": f"Bearer {key}"} if key else {}),
            method="POST",
        )
        with self._opener.open(request, timeout=ANSWER_SECONDS) as reply:
            return json.load(reply)

    def _price(self, read: int, written: int) -> float:
        per_read, per_written = self._endpoint.usd_per_million
        return (read * per_read + written * per_written) / 1e6

    def _used(self, reply: Any, most_usd: float) -> float:
        """Its price in USD by its own count of tokens; the most that it can be without one."""
        match reply:
            case {"usage": {"prompt_tokens": int(read), "completion_tokens": int(written)}}:
                return self._price(read, written)
        return most_usd

    def _reserve(self, usd: float) -> bool:
        """Count a call, if the caps allow one whose price may be ``usd``."""
        cap = self._endpoint.most_usd
        with self._change:
            # What others reserved is mostly given back.
            while cap is not None and self._in_flight and self._past(usd, cap):
                self._change.wait()
            if self.stopped is None and self.calls >= self._endpoint.most_calls:
                self._stop(f"{self.calls} calls were made, which --judge-calls allows; raise it")
            if self.stopped is None and cap is not None and self._past(usd, cap):
                self._stop(
                    f"another call could pass --judge-usd {cap:g} ({self.usd:.4f} spent); raise it"
                )
            if self.stopped is not None:
                return False
            self.calls += 1
            self._in_flight += 1
            self._reserved_usd += usd
            return True

    def _past(self, usd: float, cap: float) -> bool:
        return self.usd + self._reserved_usd + usd > cap

    def _settle(self, reserved_usd: float, usd: float) -> None:
        with self._change:
            self._in_flight -= 1
            self._reserved_usd -= reserved_usd
            self.usd += usd
            self._change.notify_all()

    def _stop(self, reason: str) -> None:
        more = "answers are kept, and the same command goes on from there"
        self.stopped = self.stopped or f"{reason}; {more}"


def _written(reply: Any) -> str:
    """The text of a reply; empty, hence unreadable, where it has none."""
    match reply:
        case {"choices": [{"message": {"content": str(text)}}, *_]}:
            return text
    return ""
