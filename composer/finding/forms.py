"""The form behind “Find modules by examples”; its fields are called as those of the compose form."""

from typing import Any

from django import forms
from django.utils.datastructures import MultiValueDict

from composer.core.spec.examples import Example
from composer.models import SENTENCE_MAX
from composer.request.forms import GridField, PastedField, problems_as_errors
from composer.task.examples import EXAMPLES_MAX, NO_EXAMPLES, read_pasted
from hub_site.common.errors import Refusal
from modules_registry.models import BaseModel


class FindForm(forms.Form):
    data: MultiValueDict[str, str]

    shots_text = PastedField(
        required=False,
        label="Examples",
        help_text="One input and its expected output per line; from a spreadsheet, CSV or JSON.",
    )
    shots = GridField(required=False)  # sent by the compose form
    sentence = forms.CharField(
        required=False,
        max_length=SENTENCE_MAX,
        label="What should the module do?",
        help_text="Modules with these words are tried first.",
    )
    base = forms.ChoiceField(label="Base model")

    FIELD_OF_REFUSAL = {"examples": "shots_text"}

    def __init__(self, *args: Any, bases: list[BaseModel], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        # The compose form sends its examples as rows.
        self.fields["shots_text"].required = not (self.is_bound and self.data.getlist("shots_input"))
        self.fields["shots_text"].error_messages["required"] = NO_EXAMPLES
        field: Any = self.fields["base"]
        field.choices = [(base.name, base.name) for base in bases]

    def clean_shots_text(self) -> list[Example]:
        with problems_as_errors():
            return list(read_pasted(self.cleaned_data["shots_text"], limit=EXAMPLES_MAX).examples)

    def clean(self) -> dict[str, Any]:
        """The arguments of services.example_search_ask."""
        cleaned = super().clean() or {}
        examples = [*cleaned.get("shots", ()), *cleaned.get("shots_text", ())]
        if not examples and not self.errors:
            self.add_error("shots_text", NO_EXAMPLES)
        return {
            "examples": examples,
            "sentence": cleaned.get("sentence", ""),
            "base": cleaned.get("base"),
        }

    def refuse(self, refusal: Refusal) -> None:
        """Show what a service refused, at the field it names."""
        fields = {self.FIELD_OF_REFUSAL.get(name, name): said for name, said in refusal.fields.items()}
        for name, messages in fields.items():
            self.add_error(name if name in self.fields else None, messages)
        if not fields:
            self.add_error(None, refusal.message)
