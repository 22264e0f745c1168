"""What a card says that the protocol shows among a model's tags: its languages, and what it is for."""

from collections.abc import Sequence
from dataclasses import dataclass

from modules_registry.core.languages import language_codes
from modules_registry.facets import in_order_of_tasks, tasks_of
from modules_registry.models import FacetValue, Module, Version
from modules_registry.selectors import front_matter_of


@dataclass(frozen=True)
class Told:
    """The same values by which the library's facets narrow it."""

    languages: Sequence[str] = ()  # codes
    tasks: Sequence[str] = ()  # the first is its pipeline_tag


def told_of(module: Module, version: Version) -> Told:
    """Of one version, as its card says it."""
    front_matter = front_matter_of(version)
    languages = language_codes(front_matter.get("language"), [tag.name for tag in module.tags.all()])
    return Told(languages, tasks_of(version.task_type, front_matter))


def told_of_listed(modules: Sequence[Module]) -> dict[int, Told]:
    """The same of many, by module, in one query and without a look into their cards: of what is current."""
    keys = {key for module in modules for key in module.facets}
    rows = FacetValue.objects.filter(pk__in=keys, facet__in=("language", "task")).order_by("value")
    values = {row.pk: row for row in rows}
    told = {}
    for module in modules:
        carried = [row for pk, row in values.items() if pk in set(module.facets)]
        languages = [row.value for row in carried if row.facet == "language"]
        tasks = [row.value for row in carried if row.facet == "task"]
        task_type = module.current.task_type if module.current else ""
        told[module.pk] = Told(languages, in_order_of_tasks(tasks, task_type))
    return told
