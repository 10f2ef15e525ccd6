"""Structured labels in words: what a text tower reads where there is a label instead of a report.

Radiologists' phrases for a finding or a tube that is there, is not, or may be; never CLIP's list of
"a photo of".
"""

from collections.abc import Mapping

import numpy as np

PRESENT, ABSENT, UNCERTAIN = 1, 0, -1

TEMPLATES: Mapping[int, tuple[str, ...]] = {
    PRESENT: ("{Name}.", "{Name} is present.", "There is {name}.", "Chest x-ray with {name}."),
    ABSENT: ("No {name}.", "There is no {name}.", "{Name} is absent.", "No evidence of {name}."),
    UNCERTAIN: ("Possible {name}.", "{Name} cannot be excluded.", "Questionable {name}."),
}

WORDS: Mapping[str, str] = {
    "ett": "endotracheal tube",
    "ngt": "nasogastric tube",
    "cvc": "central venous catheter",
    "edema": "pulmonary edema",
    "effusion": "pleural effusion",
    "nodule": "pulmonary nodule",
}
"""Labels whose column name is not what a report says; any other is read with its underscores as
spaces."""

NO_FINDING = "no_finding"
"""A label that is there where none else is: "no no finding" is nothing that a report says."""

NO_FINDING_TEMPLATES: Mapping[int, tuple[str, ...]] = {
    PRESENT: (
        "No finding.",
        "Normal chest x-ray.",
        "No abnormality.",
        "There is no abnormality.",
    ),
    ABSENT: (
        "Abnormal finding.",
        "Abnormal chest x-ray.",
        "Abnormality is present.",
        "There is an abnormality.",
    ),
}

NORMAL = ("No abnormality.", "Normal chest x-ray.", "No finding and no tube.")
"""Of an image none of whose known labels is present or uncertain."""


def spoken(label: str) -> str:
    """``finding_edema`` -> ``pulmonary edema``."""
    return _words(label.split("_", 1)[1])


def _words(name: str) -> str:
    return WORDS.get(name, name.replace("_", " "))


def prompt(label: str, state: int, generator: np.random.Generator) -> str:
    """One label in words; the generator draws the template."""
    return _filled(_draw(TEMPLATES[state], generator), spoken(label))


def every_prompt(name: str, state: int) -> tuple[str, ...]:
    """One label in the words of each template: what a text tower is asked without training.

    Args:
        name: of a label without its prefix, as tasks have it, such as ``edema``.
        state: ``PRESENT`` or ``ABSENT``, with as many prompts each.
    """
    if name == NO_FINDING:
        return NO_FINDING_TEMPLATES[state]
    return tuple(_filled(template, _words(name)) for template in TEMPLATES[state])


def _filled(template: str, name: str) -> str:
    return template.format(name=name, Name=name[0].upper() + name[1:])


def set_prompt(known: Mapping[str, int], generator: np.random.Generator) -> str:
    """All labels that are present or uncertain, by name; or that there is none."""
    parts = [
        prompt(label, state, generator) for label, state in sorted(known.items()) if state != ABSENT
    ]
    return " ".join(parts) if parts else _draw(NORMAL, generator)


def _draw(choices: tuple[str, ...], generator: np.random.Generator) -> str:
    return choices[int(generator.integers(len(choices)))]
