"""The stages of a composition: their order, their names in events, rows and reports, and their words.

Standard library only, so that pages and estimates can read it without loading torch.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Stage:
    """One stage.

    Attributes:
        name: in events, rows and reports; it stays.
        label: on pages.
        doing: what its event says while it runs, with names for what is different each time.
    """

    name: str
    label: str
    doing: str

    def text(self, **values: str) -> str:
        """What its event says."""
        return self.doing.format(**values)


LOAD = Stage("load", "Load", "Loading {base} and {modules}")
SCREEN = Stage("screen", "Try each module", "Trying {modules} one by one")
SEARCH = Stage("search", "Search the weights", "Searching the weights of {modules}")
EXPORT = Stage("export", "Write the adapter", "Writing the adapter and loading it again")
EVALUATE = Stage("evaluate", "Compare", "Comparing {examples}")

STAGES = (LOAD, SCREEN, SEARCH, EXPORT, EVALUATE)  # in the order they run
