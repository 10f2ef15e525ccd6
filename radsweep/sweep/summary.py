"""The end of a run on a terminal: what its scores support, in the sentences asked for first."""

from collections.abc import Sequence

from rich.markup import escape
from rich.panel import Panel

from radsweep.laws.analysis import FALLS, FLAT, RISES, UNDECIDED
from radsweep.laws.answers import Answer
from radsweep.laws.words import paradigm_title

VERDICTS = {
    RISES: "surely rising",
    FALLS: "falling",
    FLAT: "flat",
    UNDECIDED: "undecided",
}
"""Of a trend, in the summary."""


def answers_panel(found: Sequence[Answer]) -> Panel:
    """What is asked first, task by task: which is best, since when, and whether more data helps.

    What ten times the data would buy, and every interval, is on the page.
    """
    said: list[str] = []
    for heading in dict.fromkeys(one.heading for one in found if one.task):
        mine = [one for one in found if one.heading == heading]
        said.append(f"[bold]{escape(heading)}[/bold]")
        for kind in ("best", "open_weights"):
            texts = [one.sentence.removeprefix(f"{heading}: ") for one in mine if one.kind == kind]
            said += [f"- {escape(text[0].upper() + text[1:])}" for text in texts]
        trends: dict[str, list[str]] = {}
        for one in mine:
            if one.kind == "trend":
                verdict = VERDICTS[str(one.numbers["verdict"])]
                trends.setdefault(verdict, []).append(paradigm_title(str(one.numbers["paradigm"])))
        words = "; ".join(f"{verdict}: {', '.join(who)}" for verdict, who in trends.items())
        said += [f"- With more data, {escape(words)}."] if words else []
    said += [escape(one.sentence) for one in found if one.kind == "caution"]
    return Panel("\n".join(said), title="what the scores support", highlight=False)
