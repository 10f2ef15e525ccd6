"""What a report states of each finding: present, absent, possible or nothing, by rules.

Mentions, then negation and uncertainty in the same clause, as in NegEx (Chapman et al. 2001) and
the CheXpert labeller (Irvin et al. 2019, section 3). It runs without weights, the same for every
encoder, and on the true and the generated report alike. It knows chest films in English (American
and British); it is a yardstick for comparing encoders on one corpus, not a clinical reader.
"""

import re

MENTIONS = {
    "cardiomegaly": r"cardiomegaly|"
    r"(?:heart|cardiac|cardiomediastinal)(?: \w+){0,6} "
    r"(?:enlarge[a-z]*|increased|above normal|borderline)|"
    r"(?:enlarge[a-z]*|increased)(?: \w+){0,3} (?:heart|cardiac|ctr|cardiothoracic)|"
    r"(?:ctr|cardiothoracic ratio)(?: \w+){0,6} (?:increased|over|above)",
    "effusion": r"effusions?|pleural fluid|hydrothorax|"
    r"fluid (?:\w+ ){0,4}bases?|"
    r"blunt(?:ed|ing) (?:\w+ ){0,4}(?:costophrenic|sulc\w+)|"
    r"(?:costophrenic|sulc\w+)(?: \w+){0,4} (?:blunt\w*|obliterated)",
    "pneumothorax": r"pneumothora(?:x|ces)|pleural air|lung edge|visceral pleural (?:edge|line)|"
    r"apical pleural line|air (?:\w+ ){0,6}pleural spaces?",
    "nodule": r"nodul(?:e|es|ar)|coin lesions?|lung masse?s?|pulmonary masse?s?|"
    r"round(?:ed)? (?:opacit\w+|focus|foci|densit\w+)|focal lung lesions?",
    "consolidation": r"consolidations?|air ?space (?:\w+ )?(?:opacit\w+|disease|shadowing)|"
    r"infiltrates?|pneumonias?|pneumonic|infection|shadowing (?:\w+ ){0,4}infective|"
    r"lung is opacified|"
    r"(?:patchy|early) (?:\w+ ){0,4}shadowing",
    "edema": r"o?edema|vascular congestion|fluid overload|(?:heart|cardiac|mild) failure|"
    r"^(?:no )?failure|upper lobe diversion|septal lines|perihilar haze",
    "atelectasis": r"atelecta\w+|volume loss|fleischner lines|"
    r"(?:basal|plate|linear)(?: plate)? collapse|^no collapse",
    "fracture": r"fractures?",
    "emphysema": r"emphysema\w*|hyperinflat\w+",
    "ett": r"endotracheal tubes?|et tubes?|ett|tracheal tubes?",
    "ngt": r"(?:nasogastric|orogastric|enteric|feeding|ng) tubes?|ngt|dobbhoff",
    "cvc": r"central (?:\w+ )?(?:lines?|catheters?)|cvc|picc|"
    r"(?:jugular|subclavian|ij)(?: \w+){0,3} (?:lines?|catheters?)",
    "chest_tube": r"(?:chest|thoracostomy) tubes?|pigtail catheters?|"
    r"(?:intercostal|apical|basal|pleural|chest) drains?",
}
"""Finding -> pattern of its mentions, searched in the clauses of ``_clauses``."""

FINDINGS = tuple(MENTIONS)

UNCERTAIN_BEFORE = (
    r"possibl[ey]|probabl[ey]|questionable|question of|may|might|could|suspected|suspicion of|"
    r"suspicious for|concern(?:ing)? for|borderline|equivocal|likely|versus|query"
)
UNCERTAIN_AFTER = (
    r"(?:cannot|can not|could not) be (?:\w+ )?excluded|not (?:be )?excluded|not ruled out|"
    r"possible|probable|suspected|is questioned|versus|difficult to judge|borderline"
)
DENIED_BEFORE = (
    r"no|not|without|negative for|free of|clear of|resolved|resolution of|absence of|never|nor|nil"
)
DENIED_AFTER = (
    r"not (?:seen|shown|visible|identified|enlarged|present|demonstrated)|(?:is|are) absent|"
    + (r"has resolved|have resolved|ruled out|excluded")
)
NOT_DENIALS = r"no (?:\w+ )?(?:change|increase|interval change)(?: \w+)? (?:in|of)|not only"
"""Phrases that hold a denying word and deny nothing."""

MENTION = {name: re.compile(rf"(?<!\w)(?:{pattern})(?!\w)") for name, pattern in MENTIONS.items()}


def _any(pattern: str) -> re.Pattern[str]:
    return re.compile(rf"(?<!\w)(?:{pattern})(?!\w)")


_UNCERTAIN_BEFORE, _UNCERTAIN_AFTER = _any(UNCERTAIN_BEFORE), _any(UNCERTAIN_AFTER)
_DENIED_BEFORE, _DENIED_AFTER, _NOT_DENIALS = (
    _any(DENIED_BEFORE),
    _any(DENIED_AFTER),
    _any(NOT_DENIALS),
)


def stated(report: str) -> dict[str, int]:
    """Finding -> 1 present, -1 possible, 0 denied; what is not mentioned is not a key.

    A finding that is mentioned several times is what the strongest mention says: present, then
    possible, then denied.
    """
    found: dict[str, int] = {}
    for clause in _clauses(report):
        for name, pattern in MENTION.items():
            for mention in pattern.finditer(clause):
                state = _state(clause, mention.start(), mention.end())
                found[name] = max(found.get(name, 0), state, key=(0, -1, 1).index)
    return found


def asserted(report: str) -> set[str]:
    """Findings that a report states, for certain or as possible."""
    return {name for name, state in stated(report).items() if state != 0}


def _clauses(report: str) -> list[str]:
    """Lower-case stretches within which a denial or a doubt holds: sentences, cut at contrasts."""
    text = re.sub(r"(?<!\w)(?:findings|impression)\s*:", ". ", report.lower())
    text = re.sub(r"[-/]", " ", text)
    # A decimal point ends no sentence.
    sentences = re.split(r"(?<!\d)\.|\.(?!\d)|[;\n!]", text)
    clauses = []
    for sentence in sentences:
        for part in re.split(
            r"(?<!\w)(?:but|however|although|though|except|apart from)(?!\w)", sentence
        ):
            # The telegram style asks with a leading question mark.
            plain = re.sub(r"[^a-z0-9 ]", " ", part.replace("?", " query "))
            clauses.append(re.sub(r" +", " ", plain).strip())
    return [clause for clause in clauses if clause]


def _state(clause: str, start: int, end: int) -> int:
    """Of one mention: doubt goes before denial, since "cannot be excluded" holds a denying word."""
    before = clause[:end]
    after = clause[start:]
    if _UNCERTAIN_AFTER.search(after):
        return -1
    denials = _NOT_DENIALS.sub(" ", before)
    if _DENIED_BEFORE.search(denials) or _DENIED_AFTER.search(after):
        return 0
    return -1 if _UNCERTAIN_BEFORE.search(before) else 1
