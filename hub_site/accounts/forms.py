from django import forms

from hub_site.accounts.models import ApiToken


class TokenForm(forms.Form):
    label = forms.CharField(
        max_length=60, help_text="Where you will use it, such as “laptop” or “training server”."
    )
    scope = forms.ChoiceField(
        choices=ApiToken.Scope.choices,
        initial=ApiToken.Scope.READ,
        help_text="“Read and write” may upload, compose and delete in your name.",
    )
    days = forms.IntegerField(
        required=False,
        min_value=1,
        max_value=3650,
        label="Expires after (days)",
        help_text="Empty: it lasts until you revoke it.",
    )
