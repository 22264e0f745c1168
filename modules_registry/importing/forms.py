"""What the page asks for. Whether it may be done is the service's question."""

from typing import Any

from django import forms

from hub_site.common.errors import Refusal
from modules_registry.forms import BASE_NAME_LENGTH_MAX, OwnerForm
from modules_registry.importing.source_lists import LIST_BYTES_MAX, list_text, sources_in

SOURCES_LENGTH_MAX = 400_000  # characters: more than the most repositories have in their names


class SourcesField(forms.CharField):
    """Shown as required; the form looks whether a list file stands in for it."""

    def validate(self, value: Any) -> None:
        pass


class ImportForm(OwnerForm):
    """Repositories by their names, typed or in a file, and whose modules they become."""

    use_required_attribute = False
    sources = SourcesField(
        label="What to import",
        max_length=SOURCES_LENGTH_MAX,
        help_text="One a line: a repository as owner/name, or an owner for everything of theirs. "
        "owner/name@revision takes another state than the newest. An address from your browser will do.",
        widget=forms.Textarea(
            attrs={
                "rows": 6, "class": "mono", "spellcheck": "false", "autocapitalize": "none",
                "placeholder": "lorahub/flan_t5_large-glue_qnli",
            }
        ),
    )  # fmt: skip
    list_file = forms.FileField(
        label="Or a list file",
        required=False,
        allow_empty_file=True,
        help_text="Plain text, one a line. Lines that begin with # are left out.",
        widget=forms.FileInput(attrs={"accept": ".txt,text/plain"}),
    )
    base = forms.CharField(
        label="Base model",
        required=False,
        max_length=BASE_NAME_LENGTH_MAX,
        help_text="Only if the repositories name none, or a folder: what all of them were trained on.",
        widget=forms.TextInput(attrs={"list": "bases", "autocomplete": "off", "spellcheck": "false"}),
    )

    def clean_list_file(self) -> str:
        file = self.cleaned_data["list_file"]
        try:
            return list_text(file.read(LIST_BYTES_MAX + 1)) if file else ""
        except Refusal as refusal:
            raise forms.ValidationError(refusal.message) from refusal

    def clean(self) -> dict[str, Any]:
        """The lines of both, without the comments, in place of the two texts."""
        cleaned: dict[str, Any] = super().clean() or {}
        cleaned["sources"] = sources_in(f"{cleaned.get('sources', '')}\n{cleaned.pop('list_file', '')}")
        if not self.errors and not cleaned["sources"]:
            self.add_error("sources", "Name a repository or an owner, or choose a list file.")
        return cleaned
