"""The ready-made libraries: a small invented world that every site begins with, and real English."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from django.conf import settings

SMALL, ENGLISH = "small", "english"
WORLDS = (SMALL, ENGLISH)


@dataclass(frozen=True)
class DemoWorld:
    """A library's committed files, and where its base model is."""

    bundle: Path
    bases: Path | None  # folder of base models by name; None: the bundle holds its own
    made_by: str  # the commands that make what is missing

    @property
    def listing(self) -> dict[str, Any] | None:
        """The content of bundle.json; None when the site runs without this world."""
        path = self.bundle / "bundle.json"
        return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None

    def base_folder(self, name: str) -> Path:
        return self.bases / name if self.bases else self.bundle / "base"


def demo_world(name: str) -> DemoWorld:
    """Return the world of that name."""
    if name == ENGLISH:
        made_by = "`./hub demo english`; the modules: `python -m demo.english.build`"
        return DemoWorld(Path(settings.HUB_ENGLISH_BUNDLE), Path(settings.HUB_DATA), made_by)
    return DemoWorld(Path(settings.HUB_DEMO_BUNDLE), None, "`python -m demo.build`")
