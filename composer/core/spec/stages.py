"""The stages of a composition: their order, their stable names and their texts.

The module imports the standard library only, so pages and estimates can read it without loading torch.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Stage:
    """One stage of a composition.

    Attributes:
        name: the stable name in events, rows and reports.
        label: the name on pages.
        doing: the text of its event, with fields such as {modules}.
    """

    name: str
    label: str
    doing: str

    def text(self, **values: str) -> str:
        """Return the text of the stage's event, with the fields of `doing` filled in.

        Raises:
            KeyError: `values` lacks a field.
        """
        return self.doing.format(**values)


LOAD = Stage("load", "Load", "Loading {base} and {modules}")
SCREEN = Stage("screen", "Screen modules", "Trying {modules} one by one")
SEARCH = Stage("search", "Search weights", "Searching the weights of {modules}")
PRUNE = Stage("prune", "Prune", "Removing modules, layers and rank that are not needed")
EXPORT = Stage("export", "Write adapter", "Writing the adapter and loading it again")
EVALUATE = Stage("evaluate", "Compare", "Comparing {examples}")

STAGES = (LOAD, SCREEN, SEARCH, PRUNE, EXPORT, EVALUATE)  # in the order they run; PRUNE if it is asked for
