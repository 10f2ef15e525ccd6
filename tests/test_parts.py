"""What is read of a part's source without running it."""

import sys
from pathlib import Path

import pytest

from radsweep import parts
from radsweep.errors import SpecError

BASE = """
from dataclasses import dataclass
@dataclass(frozen=True, kw_only=True)
class Common:
    steps: int = 1
"""
HEAD = "VERSION = 1\nfrom dataclasses import dataclass\n"


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "their_parts"
    folder.mkdir()
    (folder / "__init__.py").write_text("")
    (folder / "common.py").write_text(BASE)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "their_parts", raising=False)
    return folder


@pytest.mark.parametrize(
    "line", ["from .common import Common", "from their_parts.common import Common"]
)
def test_settings_are_read_with_those_of_their_bases(package: Path, line: str) -> None:
    name = f"probe_{len(line)}"
    text = f"{HEAD}{line}\nclass Settings(Common):\n    width: int = 2\n"
    (package / f"{name}.py").write_text(text)
    assert parts.setting_names("probes", f"their_parts.{name}") == ["steps", "width"]
    assert "their_parts.common" not in sys.modules


def test_a_base_that_cannot_be_read_is_an_error_and_not_a_loss(package: Path) -> None:
    text = f"{HEAD}from . import common\nclass Settings(common.Common):\n    width: int = 2\n"
    (package / "hidden.py").write_text(text)
    with pytest.raises(SpecError, match=r"has the base common\.Common: import it by a name"):
        parts.setting_names("probes", "their_parts.hidden")
