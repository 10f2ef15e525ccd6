"""What a terminal says while a sweep runs."""

import pytest
from rich.progress import Progress

from radsweep.sweep.bars import TimeLeftColumn


@pytest.mark.parametrize(
    ("updates", "left"),
    [
        ([(60.0, 0)], "-:--:--"),
        # A batch of five ends at once: 31 more at five in 980 s, and not as fast as the last five.
        ([(980.0, 5)], "1:41:16"),
        ([(10.0, 18)], "0:00:10"),
        ([(5.0, 36)], "0:00:00"),
    ],
)
def test_the_time_left_is_at_the_mean_rate_since_the_bar_was_drawn(
    updates: list[tuple[float, int]], left: str
) -> None:
    now = [0.0]
    column = TimeLeftColumn()
    bars = Progress(column, get_time=lambda: now[0])
    bar = bars.add_task("evaluating", total=36)
    assert column.render(bars.tasks[0]).plain == "-:--:--"
    for at, completed in updates:
        now[0] = at
        bars.update(bar, completed=completed)
    assert column.render(bars.tasks[0]).plain == left


def test_what_an_earlier_run_did_is_no_rate() -> None:
    now = [0.0]
    column = TimeLeftColumn()
    bars = Progress(column, get_time=lambda: now[0])
    bar = bars.add_task("evaluating", total=36, completed=30)
    column.render(bars.tasks[0])
    now[0] = 60.0
    bars.update(bar, completed=33)
    assert column.render(bars.tasks[0]).plain == "0:01:00"
