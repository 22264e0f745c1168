"""Telling the people of a module that others use it."""

from collections.abc import Collection, Iterable, Iterator

from django.db.models import Count

from hub_site.accounts.selectors import people_of
from hub_site.notifications.models import Kind, Notice
from hub_site.notifications.services import notify
from modules_registry.models import Evidence, Lineage, Module

USES_TOLD = (1, 10, 100, 1000, 10_000)  # compositions of others: each of these numbers is told once


def tell_of_child(module: Module) -> None:
    """Tell the people of its parents that a module is published which was composed from them.

    A private one is nobody's to hear of; it is told once it becomes public.
    """
    if module.private or module.current is None:
        return
    rows = Lineage.objects.filter(child=module.current).exclude(weight=0)
    rows = rows.select_related("made_from__module__namespace__user")
    parents = {row.made_from.module_id: row.made_from.module for row in rows}
    notify(notices_of_child(module, parents.values()))


def notices_of_child(child: Module, parents: Iterable[Module]) -> Iterator[Notice]:
    own = {person.pk for person in people_of(child.namespace)}
    for parent in parents:
        text = f"{child.full_name} was published. It is composed from your module {parent.full_name}."
        for person in people_of(parent.namespace):
            if person.pk not in own:
                about = f"module:{parent.pk}:in:{child.pk}"
                yield Notice(person.pk, Kind.USE, about, text, child.get_absolute_url())


def tell_of_uses(modules: Collection[int]) -> None:
    """Tell the people of these modules, by their keys, in how many compositions of others they took part."""
    parts = Evidence.objects.filter(module__in=modules, kind=Evidence.Kind.PART)
    counts = dict(parts.order_by().values_list("module").annotate(count=Count("pk")))
    due = {module: max(n for n in USES_TOLD if n <= count) for module, count in counts.items()}
    rows = Module.objects.existing().filter(pk__in=due).select_related("namespace__user")
    notify(notice for module in rows for notice in notices_of_uses(module, due[module.pk]))


def notices_of_uses(module: Module, n: int) -> Iterator[Notice]:
    where = "someone else's composition" if n == 1 else f"{n:,} compositions of others"
    text = f"Your module {module.full_name} was used in {where}."
    about = f"module:{module.pk}:uses:{n}"
    for person in people_of(module.namespace):
        yield Notice(person.pk, Kind.USE, about, text, module.get_absolute_url())
