"""Spot notices, read from a service that plays each cloud's."""

from collections.abc import Iterator

import pytest

from radsweep.errors import SpecError
from radsweep.sweep.spot import MetadataError, notice
from tests.sweep.metadata import NAME, Clouds, metadata_service


@pytest.fixture
def clouds() -> Iterator[Clouds]:
    with metadata_service() as playing:
        yield playing


@pytest.mark.parametrize("provider", ["aws", "gcp", "azure"])
def test_a_machine_that_may_stay_has_no_notice(provider: str, clouds: Clouds) -> None:
    assert notice(provider, clouds.url) is None


@pytest.mark.parametrize(("provider", "seconds"), [("aws", 118), ("azure", 25)])
def test_a_notice_says_how_long_is_left(provider: str, seconds: float, clouds: Clouds) -> None:
    clouds.seconds = seconds
    told = notice(provider, clouds.url)
    # Both clouds say the second and not its fraction.
    assert told is not None and seconds - 3 < told.seconds_left <= seconds
    assert "erminate" in told.said or "Preempt" in told.said


def test_a_preempted_machine_of_gcp_has_half_a_minute(clouds: Clouds) -> None:
    clouds.seconds = 0
    told = notice("gcp", clouds.url)
    assert told is not None and told.seconds_left == 30


def test_a_notice_whose_time_has_come_leaves_nothing_and_not_less(clouds: Clouds) -> None:
    clouds.seconds = -60
    told = notice("aws", clouds.url)
    assert told is not None and told.seconds_left == 0
    clouds.azure_has_begun = True
    told = notice("azure", clouds.url)
    assert told is not None and told.seconds_left == 0


def test_an_event_of_another_machine_of_the_scale_set_is_not_ours(clouds: Clouds) -> None:
    clouds.seconds = 30
    clouds.azure_resources = [f"{NAME}0", "worker-8"]
    assert notice("azure", clouds.url) is None


@pytest.mark.parametrize("provider", ["aws", "gcp", "azure"])
def test_an_answer_that_is_no_metadata_services_is_a_fault_and_not_a_stay(
    provider: str, clouds: Clouds
) -> None:
    clouds.is_broken = True
    with pytest.raises(MetadataError, match=provider):
        notice(provider, clouds.url)


def test_a_service_that_is_not_there_is_named_with_the_remedy(clouds: Clouds) -> None:
    with pytest.raises(MetadataError, match="hop limit"):
        notice("aws", "http://127.0.0.1:9")


def test_a_provider_that_nobody_knows_is_refused_with_a_guess() -> None:
    with pytest.raises(SpecError, match="azure"):
        notice("azur", "http://127.0.0.1:9")
