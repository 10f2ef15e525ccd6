"""Where a report's sections and sentences begin, as far as a text tower needs it."""

import re

HEADING = re.compile(r"\b(FINDINGS|IMPRESSION|CONCLUSION|OPINION|SUMMARY)\s*:", re.IGNORECASE)
IMPRESSIONS = frozenset({"impression", "conclusion", "opinion", "summary"})
SENTENCE_END = re.compile(r"(?<=[.!?])\s+|\n+")


def impression_first(report: str) -> str:
    """The report with its impression, or what that hospital calls it, moved to the front.

    Unchanged where there is no such heading, or nothing before it.
    """
    for heading in HEADING.finditer(report):
        if heading[1].lower() in IMPRESSIONS:
            return (
                f"{report[heading.start() :].strip()} {report[: heading.start()].strip()}".strip()
            )
    return report


def sentences(report: str) -> list[str]:
    """Whole sentences in order, headings taken off; a decimal point ends none."""
    parts = (part.strip() for part in SENTENCE_END.split(HEADING.sub("\n", report)))
    return [part for part in parts if part]
