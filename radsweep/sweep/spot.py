"""What a cloud says to a spot machine that it is about to take away, read from inside the machine.

Ray looks at no cloud's notices. ``notice`` reads one with the standard library alone;
``radsweep.sweep.watch`` asks it on every node and drains those that are told to go.

Sources: EC2 user guide, "Spot Instance interruption notices" and "Use IMDSv2"; Compute Engine
documentation, "Preemptible VM instances: preemption process"; Azure documentation, "Scheduled
Events for Linux VMs".
"""

import json
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

from radsweep.errors import RadsweepError, SpecError
from radsweep.parts import did_you_mean

ANSWER_SECONDS = 2.0
"""A metadata service is on the machine's own host: one that takes longer is not there."""

GCP_SECONDS = 30.0
"""Compute Engine says that a machine goes and not when: it gives 30 s before it switches off."""

TOKEN_SECONDS = "300"


class MetadataError(RadsweepError):
    """The metadata service did not answer, or not as its documentation says."""


@dataclass(frozen=True, kw_only=True)
class Notice:
    """This machine is about to go."""

    seconds_left: float
    """Until it does, by this machine's clock; never negative."""
    said: str
    """The cloud's own words, for the log."""


def check_provider(provider: str) -> None:
    """Raise SpecError unless notices of this provider can be read."""
    if provider not in PROVIDERS:
        raise SpecError(
            f"no spot notices of {provider!r}; {did_you_mean(provider, sorted(PROVIDERS))}"
        )


def notice(provider: str, base_url: str | None = None) -> Notice | None:
    """The notice that this machine has been given, or None as long as it may stay.

    Args:
        provider: ``aws``, ``gcp`` or ``azure``.
        base_url: of the metadata service; None is where the provider has it.

    Raises SpecError for another provider, MetadataError where nothing answers as it should.
    """
    check_provider(provider)
    found = PROVIDERS[provider]
    try:
        return found.read(base_url or found.base_url)
    except (OSError, ValueError, KeyError) as fault:
        raise MetadataError(
            f"the metadata service of {provider} at {base_url or found.base_url} does not answer "
            f"as it should ({type(fault).__name__}: {fault}); is this a machine of {provider}, "
            "and may containers reach the service (on EC2: a hop limit of 2)?"
        ) from fault


def _ask(url: str, headers: dict[str, str], method: str = "GET") -> bytes | None:
    """The body, or None for 404: the clouds' word for nothing to say."""
    request = urllib.request.Request(url, headers=headers, method=method)
    # A proxy would answer for another machine.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(request, timeout=ANSWER_SECONDS) as answer:
            body: bytes = answer.read()
            return body
    except urllib.error.HTTPError as fault:
        if fault.code == 404:
            return None
        raise


def _needed(url: str, headers: dict[str, str], method: str = "GET") -> bytes:
    body = _ask(url, headers, method)
    if body is None:
        raise ValueError(f"{url} answers 404")
    return body


def _until(moment: datetime) -> float:
    return max(0.0, moment.timestamp() - time.time())


def _aws(base: str) -> Notice | None:
    """IMDSv2: a token first; ``instance-action`` is 404 until two minutes before the end."""
    token = _needed(
        f"{base}/latest/api/token", {"X-aws-ec2-metadata-token-ttl-seconds": TOKEN_SECONDS}, "PUT"
    )
    body = _ask(
        f"{base}/latest/meta-data/spot/instance-action",
        {"X-aws-ec2-metadata-token": token.decode()},
    )
    if body is None:
        return None
    said = json.loads(body)
    at = datetime.strptime(said["time"], "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC)
    return Notice(seconds_left=_until(at), said=f"EC2: {said['action']} at {said['time']}")


def _gcp(base: str) -> Notice | None:
    body = _needed(f"{base}/computeMetadata/v1/instance/preempted", {"Metadata-Flavor": "Google"})
    said = body.decode().strip()
    if said not in ("TRUE", "FALSE"):
        raise ValueError(f"preempted is {said[:40]!r}")
    if said == "FALSE":
        return None
    return Notice(seconds_left=GCP_SECONDS, said="Compute Engine: preempted")


def _azure(base: str) -> Notice | None:
    """Scheduled events are told to all machines of a scale set: only ours count."""
    header = {"Metadata": "true"}
    body = _needed(f"{base}/metadata/scheduledevents?api-version=2020-07-01", header)
    events: list[dict[str, Any]] = json.loads(body)["Events"]
    going = [event for event in events if event["EventType"] in ("Preempt", "Terminate")]
    if not going:
        return None
    name = _needed(
        f"{base}/metadata/instance/compute/name?api-version=2021-02-01&format=text", header
    ).decode()
    ours = [event for event in going if name in event["Resources"]]
    if not ours:
        return None
    # An event that has begun has no time any more.
    left = min(
        _until(parsedate_to_datetime(event["NotBefore"])) if event["NotBefore"] else 0.0
        for event in ours
    )
    return Notice(seconds_left=left, said=f"Azure: {ours[0]['EventType']} of {name}")


@dataclass(frozen=True, kw_only=True)
class _Provider:
    base_url: str
    read: Callable[[str], Notice | None]


PROVIDERS = {
    "aws": _Provider(base_url="http://169.254.169.254", read=_aws),
    "gcp": _Provider(base_url="http://metadata.google.internal", read=_gcp),
    "azure": _Provider(base_url="http://169.254.169.254", read=_azure),
}
"""Where each cloud has its metadata service, and how its notices are read."""
