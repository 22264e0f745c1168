"""What is asked before a composition becomes a module, and what is shown beside the questions."""

from typing import Any

from django import forms

from composer.models import Composition
from composer.publish.plan import Plan, join_names, publication_plan
from hub_site.accounts.models import Namespace, User
from hub_site.accounts.names import NAME_LENGTH_MAX
from hub_site.accounts.selectors import namespaces_writable_by
from hub_site.common.errors import Refusal
from modules_registry.core.licenses.names import license_label
from modules_registry.forms import PrivateField


class PublishForm(forms.Form):
    """Where the module goes, what it is called, who sees it."""

    namespace = forms.ChoiceField(label="Owner")
    name = forms.CharField(
        max_length=NAME_LENGTH_MAX,
        help_text="Letters, digits, “.”, “-” and “_”. It becomes the address.",
        widget=forms.TextInput(attrs={"autocomplete": "off", "spellcheck": "false"}),
    )
    sentence = forms.CharField(
        label="Description",
        max_length=300,
        help_text="One sentence. It and the prompt template are published; your examples are not.",
        error_messages={"required": "Say in one sentence what it is good for."},
    )
    private = PrivateField()
    confirms_terms = forms.BooleanField(required=False)

    def __init__(self, *args: Any, owner: User, plan: Plan, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.namespaces = {namespace.name: namespace for namespace in namespaces_writable_by(owner)}
        namespace, terms = self.fields["namespace"], self.fields["confirms_terms"]
        namespace.choices = [(name, name) for name in self.namespaces]  # type: ignore[attr-defined]
        if len(self.namespaces) == 1:
            namespace.widget = forms.HiddenInput()
            namespace.initial = next(iter(self.namespaces))
        if plan.licence.unread:
            terms.label = "Their terms allow this"
            terms.help_text = (
                f"The terms of {join_names(plan.licence.unread)} are not known here. Tick this if you have "
                "read them and they allow publishing what is made from them."
            )
        else:
            del self.fields["confirms_terms"]

    def clean_namespace(self) -> Namespace:
        return self.namespaces[self.cleaned_data["namespace"]]


def publish_panel(composition: Composition, form: PublishForm | None = None) -> dict[str, Any]:
    """What the page shows: the module it became, or the form, or why it cannot be published."""
    if (module := composition.published_module) is not None:
        return {"published": module}
    try:
        plan = publication_plan(composition, private=True)
    except Refusal as refusal:
        return {"publish_refusal": refusal.message}
    return {
        "publish_form": form or publish_form(composition, plan),
        "publish_licence": license_text(plan),
        "publish_parents": plan.shares,
    }


def license_text(plan: Plan) -> str:
    if plan.licence.unread:
        return "Other: its parents' own terms, named in the card"
    return f"{license_label(plan.licence.licence)}, the strictest of its parents'"


def publish_form(composition: Composition, plan: Plan) -> PublishForm:
    """Filled in as far as the composition says it."""
    initial = {"name": composition.slug, "sentence": composition.sentence or composition.name}
    return PublishForm(owner=composition.owner, plan=plan, initial=initial)
