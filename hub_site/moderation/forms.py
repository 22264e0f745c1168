from typing import Any

from django import forms

from hub_site.moderation.models import NOTE_MAX, Report


class ReportForm(forms.Form):
    reason = forms.ChoiceField(choices=Report.Reason, widget=forms.RadioSelect, label="What is wrong")
    note = forms.CharField(
        required=False,
        max_length=NOTE_MAX,
        widget=forms.Textarea(attrs={"rows": 5}),
        label="Details",
        help_text="What should staff look at? If it is your work: where was it published first?",
    )
    email = forms.EmailField(
        label="Your e-mail",
        help_text="For questions of staff. The owner does not see it.",
        widget=forms.EmailInput(attrs={"autocomplete": "email"}),
    )

    def __init__(self, *args: Any, has_account: bool, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if has_account:
            del self.fields["email"]


class DecisionForm(forms.Form):
    decision = forms.ChoiceField(widget=forms.RadioSelect)
    reason = forms.CharField(
        required=False,
        widget=forms.Textarea(attrs={"rows": 3}),
        label="Reason",
        help_text="One or two sentences, sent to its owner.",
    )

    def __init__(self, *args: Any, decisions: dict[str, str], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        field = self.fields["decision"]
        assert isinstance(field, forms.ChoiceField)
        field.choices = list(decisions.items())
