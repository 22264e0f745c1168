"""Publishing a finished composition as a module: through the registry's own services, with its lineage."""

from contextlib import ExitStack
from io import BytesIO
from typing import BinaryIO
from uuid import UUID

from composer.models import Composition
from composer.publish.card import CARD_TAGS, CopyOfCard, ParentOfCard, PublicationFacts, publication_card
from composer.publish.plan import Plan, join_names, publication_plan
from composer.run.evidence import record_result
from composer.selectors import composed_modules, result_open
from hub_site.accounts.models import Namespace, User
from hub_site.accounts.names import name_key
from hub_site.common.errors import Refusal
from modules_registry.blobs import transaction_with_files
from modules_registry.core.errors import CONFIG_FILE, WEIGHTS_FILE
from modules_registry.core.licenses.combining import CombinedLicense
from modules_registry.lineage import lineage_record
from modules_registry.models import Module
from modules_registry.services import module_publish


@transaction_with_files()
def composition_publish(
    *,
    owner: User,
    composition_id: UUID,
    namespace: Namespace,
    name: str,
    sentence: str = "",
    private: bool = False,
    confirms_terms: bool = False,
    site: str,
) -> tuple[Module, bool]:
    """Make the adapter a module with its lineage and a card; the second value says whether it is new.

    The same asked again, as by a double click, gives the same module.
    """
    composition = lock_own(owner, composition_id)
    require_done(composition)
    if (published := composition.published_module) is not None:
        return require_same_name(published, namespace, name), False
    plan = publication_plan(composition, private=private)
    require_terms_confirmed(plan.licence, confirms_terms)
    facts = publication_facts(
        composition, plan, title=f"{namespace.name}/{name}", sentence=sentence, site=site
    )
    with ExitStack() as stack:
        config_file, weights_file = (
            open_file(stack, composition, path) for path in (CONFIG_FILE, WEIGHTS_FILE)
        )
        module = module_publish(
            author=owner,
            namespace=namespace,
            name=name,
            sentence=sentence,
            licence=plan.licence.licence,
            tags=CARD_TAGS,
            private=private,
            card_file=BytesIO(publication_card(composition, facts).encode()),
            message=f"Composed by {composition.method}",
            config_file=config_file,
            weights_file=weights_file,
        )
    version = composition.published_as = module.current
    assert version is not None  # module_publish has just set it
    copies = [(copy.version, 0.0) for copy in plan.copies]  # credited, without a weight of their own
    parents = [(share.version, share.weight) for share in plan.shares]
    lineage_record(version=version, parents=[*parents, *copies])
    record_result(composition, version)
    require_parents_unchanged(composition, plan, private=private)
    composition.save(update_fields=["published_as"])
    return module, True


def lock_own(owner: User, composition_id: UUID) -> Composition:
    """The owner's composition, once nobody else is publishing or deleting it."""
    rows = Composition.objects.select_for_update(of=("self",)).select_related("base")
    composition: Composition | None = rows.filter(owner=owner, pk=composition_id).first()
    if composition is None:
        raise Refusal("not_found", "No such composition of yours.", status=404)
    return composition


def require_done(composition: Composition) -> None:
    if not composition.is_done:
        message = "There is nothing to publish: this composition is not done."
        raise Refusal("not_done", message, status=409)


def require_same_name(module: Module, namespace: Namespace, name: str) -> Module:
    if (module.namespace_id, module.key) != (namespace.pk, name_key(name)):
        message = f"It is published already, as {module.full_name}. Rename that module, or delete it first."
        raise Refusal("already_published", message, status=409)
    return module


def require_terms_confirmed(licence: CombinedLicense, confirms_terms: bool) -> None:
    if licence.unread and not confirms_terms:
        message = (
            f"The terms of {join_names(licence.unread)} are not known here. Confirm that they allow "
            "publishing what is made from them, or compose again without them."
        )
        raise Refusal("terms_not_confirmed", message, fields={"confirms_terms": [message]})


def require_parents_unchanged(composition: Composition, plan: Plan, *, private: bool) -> None:
    """Hold the parents until the end of the transaction, and look at them once more."""
    parents = [share.module.pk for share in plan.shares]
    list(Module.objects.select_for_update(no_key=True).filter(pk__in=parents).order_by("pk"))
    if publication_plan(composition, private=private) != plan:
        message = "One of its modules was just changed. Check it, then publish again."
        raise Refusal("parents_changed", message, status=409)


def publication_facts(
    composition: Composition, plan: Plan, *, title: str, sentence: str, site: str
) -> PublicationFacts:
    tried = list(composed_modules(composition))
    modules = [row.version.module_id for row in tried]
    parents = {share.module.pk for share in plan.shares}
    public = (
        set(Module.objects.visible_to(None).filter(pk__in=modules).values_list("pk", flat=True)) | parents
    )
    told = [row for row in tried if row.version.module_id in public]
    return PublicationFacts(
        report=composition.report or {},
        title=title,
        sentence=" ".join(sentence.split()),
        site=site,
        licence=plan.licence,
        parents=[
            ParentOfCard(share.module.full_name, share.version.commit_id, share.weight, share.licence)
            for share in plan.shares
        ],
        copies=[
            CopyOfCard(copy.module.full_name, copy.version.commit_id, copy.stands_for_it, copy.licence)
            for copy in plan.copies
        ],
        tried=[f"{row.version.module.full_name}@{row.version.commit_id}" for row in told],
        n_hidden=len(tried) - len(told),
    )


def open_file(stack: ExitStack, composition: Composition, path: str) -> BinaryIO:
    """A file of the adapter, until the stack ends; the gate reads it anew."""
    return stack.enter_context(result_open(composition.files.get(path=path)))
