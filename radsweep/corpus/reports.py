"""Radiology reports without their header, and without what names somebody. Text in, text out."""

import re
from itertools import product

from radsweep.corpus.xray import Identity

GAP = "___"
"""Stands for what was removed, as in MIMIC-CXR."""

KEPT = {
    "FINDINGS": ("findings", "finding", "findings and impression", "findings/impression"),
    "IMPRESSION": ("impression", "impressions", "conclusion", "conclusions", "opinion", "summary"),
}
"""Sections that are kept -> how their headings are written, in any case."""

DROPPED = (
    "technique", "comparison", "comparisons", "indication", "indications", "history",
    "clinical history", "clinical information", "clinical indication", "reason for exam", "exam",
    "examination", "procedure", "study", "views", "recommendation", "notification", "attestation",
    "addendum", "patient", "name",
)  # fmt: skip
"""Headings that end a kept section, in any case; so does any other one in capitals."""

_KEPT_HEADINGS = {heading: name for name, headings in KEPT.items() for heading in headings}
_KNOWN = "|".join(sorted(map(re.escape, _KEPT_HEADINGS), key=len, reverse=True))
HEADING = re.compile(
    rf"(?:^|(?<=[.\n]))[ \t]*(?:(?P<kept>(?i:{_KNOWN}))[ \t]*(?::|-[ \t]|$)|"
    rf"(?i:{'|'.join(DROPPED)})[ \t]*:|[A-Z][A-Z /&()-]{{2,40}}:)",
    re.MULTILINE,
)
"""A kept heading, or any other one in capitals, which ends a kept section."""

SIGNATURE = re.compile(
    r"^[ \t]*(electronically|digitally|dictated|transcribed|signed|reported|verified|approved|read|"
    r"reviewed)\b"
    r"[^\n]*\b(by|on|signed|at)\b.*\Z|^[ \t]*(electronically|digitally)?[ \t]*signed\b.*\Z",
    re.IGNORECASE | re.MULTILINE | re.DOTALL,
)
HEADER_LINE = re.compile(
    r"^[^\n]*\b(patient|name|mrn|medical record|dob|date of birth|birth|accession|acc|"
    r"exam(ination)?|study date|date|referr\w*|requested|ordering|physician|radiologist|attending|"
    r"address|phone|tel|sex|age)\b"
    r"[ \t]*(number|no\.?|id|#)?[ \t]*:[^\n]*$",
    re.IGNORECASE | re.MULTILINE,
)


def sections(text: str) -> str:
    """The findings and the impression, each on a line behind its heading; the rest is dropped.

    A text without either heading loses the lines that look like a header (``MRN:``) and the
    signature.
    """
    marks = list(HEADING.finditer(text))
    kept = []
    for place, mark in enumerate(marks):
        if mark["kept"] is None:
            continue
        end = marks[place + 1].start() if place + 1 < len(marks) else len(text)
        body = _flat(SIGNATURE.sub("", text[mark.end() : end]))
        if body:
            kept.append(f"{_KEPT_HEADINGS[mark['kept'].lower()]}: {body}")
    if kept:
        return "\n".join(kept)
    if any(mark["kept"] for mark in marks):
        return ""
    return _flat(SIGNATURE.sub("", HEADER_LINE.sub("", text)))


def _flat(text: str) -> str:
    return re.sub(r"\s+", " ", text).strip(" -\t\n")


_MONTHS = ("january", "february", "march", "april", "may", "june", "july", "august", "september",
           "october", "november", "december")  # fmt: skip
_MONTH = (
    "(?:(?-i:May|MAY)|sept|"  # "segment 6 may represent" is no date
    + "|".join(f"{name[:3]}(?:{name[3:]})?" for name in _MONTHS if name != "may")
    + r")\.?"
)
_DAY, _YEAR = r"(?:0?[1-9]|[12]\d|3[01])(?:st|nd|rd|th)?", r"(?:(?:19|20)\d\d|'?\d\d)"

GENERIC = tuple(
    re.compile(pattern, re.IGNORECASE)
    for pattern in (
        r"[\w.+-]+@[\w-]+\.[\w.]+",  # mail
        r"\bhttps?://\S+",
        r"\b\d+(?:\.\d+){4,}\b",  # DICOM UIDs
        r"\b(?:19|20)\d\d[-/. ](?:0?[1-9]|1[0-2])[-/. ](?:0?[1-9]|[12]\d|3[01])\b",
        r"\b\d{1,2}[-/.]\d{1,2}[-/.](?:19|20)?\d\d\b",
        r"\b(?:0?[1-9]|1[0-2])/(?:0?[1-9]|[12]\d|3[01])\b(?!\s*(?:th|lung|of))",  # 3/14, not 1/3 of
        r"\b(?:0?[1-9]|1[0-2])/(?:19|20)\d\d\b",
        rf"\b{_DAY}[- ](?:of )?{_MONTH}(?:[-, ]+{_YEAR}\b)?",
        rf"\b{_MONTH}[- ]{_DAY}\b(?:[-, ]+(?:19|20)\d\d\b)?",
        rf"\b{_MONTH}[- ,]+(?:of )?(?:19|20)\d\d\b",
        # Telephone numbers, then record and accession numbers.
        r"(?<![\w.])(?:\+\d{1,3}[-. ]?)?(?:\(\d{2,4}\)[-. ]?|\d{3}[-. ])\d{3,4}[-. ]?\d{3,4}\b",
        r"\b(?=[A-Z-]*\d)[A-Z]{0,5}-?\d{5,}[A-Z0-9-]*\b",
        r"\b(?:MRN|accession|accession number|acc(?: no)?|record(?: number)?|patient id)[ :#.]+"
        r"[A-Z]*\d[\w-]*",
    )
)
PERSON = re.compile(
    r"\b(?P<title>Drs?|Doctor|Prof(?:essor)?|Mr|Mrs|Ms|Miss|Nurse|RN|NP|PA-C)\b\.?[ \t]+"
    r"[A-Z][\w'-]+(?:[ \t]+(?:[A-Z]\.?[ \t]+)?[A-Z][\w'-]+)?"
)
"""A title and the capitalised word or two behind it."""

COMMON = frozenset((
    "and", "at", "for", "in", "of", "on", "the", "chest", "clinic", "hospital", "infirmary",
    "medical", "center", "centre", "general", "university", "health", "care", "department",
    "imaging", "radiology", "emergency", "intensive", "unit", "ward", "floor", "room",
    "heart", "lung", "left", "right", "upper", "lower", "north", "south",
    "east", "west", "street", "road", "avenue",
))  # fmt: skip
"""Words of institutions and addresses that a report needs: only whole names of places take them."""

MIN_NAME_LETTERS = 2
MIN_NUMBER_CHARACTERS = 4


def scrub(text: str, identity: Identity) -> str:
    """Replace with ``___`` what the exam's own identifiers say, and what looks like an identifier.

    Known: every word of the names of persons and places, whole words in any case; every
    identifier; every date in the ways that people write it. Unknown: dates,
    telephone numbers, mail and web addresses, UIDs, numbers of five or more digits, and the words
    behind a title such as Dr. It removes too much rather than too little: a patient called Right
    costs her report that word.
    """
    # Whole identifiers before the patterns, which may take only a part of one; dates after them,
    # since "5th of March 2020" is longer than any form of the date that is known.
    text = _without(text, _words(identity))
    for pattern in GENERIC:
        text = pattern.sub(GAP, text)
    text = _without(text, {form for date in identity.dates for form in date_forms(date)})
    text = PERSON.sub(lambda found: f"{found['title']}. {GAP}", text)
    return re.sub(rf"{GAP}(?:[ ,]*{GAP})+", GAP, text)


def _words(identity: Identity) -> set[str]:
    """Every word of the names, and every identifier, whole and by its parts."""
    words = _split(identity.names)
    words |= {word for word in _split(identity.places) if word.lower() not in COMMON}
    words |= {place for place in identity.places if len(place.split()) > 1}
    stated = (
        *identity.numbers,
        identity.patient,
        identity.accession,
        identity.exam,
        identity.image,
    )
    numbers = {part for text in stated if text for part in (text, *text.split())}
    return words | {number for number in numbers if len(number) >= MIN_NUMBER_CHARACTERS}


def _split(names: tuple[str, ...]) -> set[str]:
    return {
        word
        for name in names
        for word in re.split(r"[\s^=,;.\\/()]+", name)
        if sum(map(str.isalpha, word)) >= MIN_NAME_LETTERS
    }


def _without(text: str, known: set[str]) -> str:
    # A pattern of hundreds of words takes longer to compile than all else that an image needs.
    lowered = text.lower()
    present = [word for word in known if word.lower() in lowered]
    if not present:
        return text
    longest_first = "|".join(
        re.escape(word) for word in sorted(present, key=lambda w: (-len(w), w))
    )
    return re.sub(rf"(?<!\w)(?:{longest_first})(?!\w)", GAP, text, flags=re.IGNORECASE)


def date_forms(text: str) -> set[str]:
    """The ways in which people write a date, given as YYYYMMDD or YYYY-MM-DD; else itself."""
    found = re.fullmatch(r"((?:19|20)\d\d)-?(\d\d)-?(\d\d).*", text.strip())
    if found is None:
        return {text.strip()} if len(text.strip()) >= MIN_NUMBER_CHARACTERS else set()
    year, month, day = found.groups()
    if not 1 <= int(month) <= 12:
        return {text.strip()}
    name = _MONTHS[int(month) - 1].capitalize()
    forms = {f"{year}{month}{day}", f"{year}{month}", f"{name} {year}"}
    days, months, years = {day, str(int(day))}, {month, str(int(month))}, (year, year[2:])
    for mark, d, m, y in product("-/. ", days, months, years):
        forms |= {mark.join(parts) for parts in ((y, m, d), (d, m, y), (m, d, y))}
    for d, m, y in product(days, (name, name[:3]), years):
        forms |= {
            f"{d} {m} {y}",
            f"{d}-{m}-{y}",
            f"{m} {d}, {y}",
            f"{m} {d} {y}",
            f"{d} {m}",
            f"{m} {d}",
        }
    return forms
