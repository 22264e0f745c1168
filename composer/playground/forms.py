"""What the box on the page asks for. Whether it may be answered is the services' question."""

from typing import Any

from django import forms
from django.http import QueryDict

MAX_NEW_TOKENS_HELP = "A token is a short word or a part of one."


class TryForm(forms.Form):
    """A question; `example` is a ready-made one, whose button was pressed."""

    use_required_attribute = False  # an example's button sends the form with an empty box too

    input = forms.CharField(label="Input", strip=False, widget=forms.Textarea(attrs={"rows": 3}))
    example = forms.CharField(required=False, strip=False, widget=forms.HiddenInput)
    template = forms.CharField(
        label="Template",
        required=False,
        strip=False,
        widget=forms.Textarea(attrs={"rows": 2, "spellcheck": "false", "class": "mono"}),
        help_text="What the model reads; {input} is the text above. “chat” is the base's chat template.",
    )
    max_new_tokens = forms.IntegerField(label="Max new tokens", required=False, help_text=MAX_NEW_TOKENS_HELP)

    def __init__(self, data: QueryDict | None = None, **options: Any) -> None:
        super().__init__(data, auto_id="try_%s", **options)
        self.fields["input"].required = not self.data.get("example")
        self.fields["input"].error_messages["required"] = "Enter an input."

    def service_arguments(self) -> dict[str, Any]:
        """The service's arguments; what was left empty is the service's to choose."""
        said = self.cleaned_data
        said["template"] = said["template"].replace("\r\n", "\n")  # as a browser sends a line break
        chosen = {name: said[name] for name in ("template", "max_new_tokens") if said[name] not in ("", None)}
        return {"text": said["example"] or said["input"], **chosen}
