from typing import Any

from django import forms

from hub_site.accounts.requests import SignedInRequest
from hub_site.common.errors import Refusal
from hub_site.my_account.passwords import PASSWORD_LENGTH_MAX, require_password


class DeleteAccountForm(forms.Form):
    name = forms.CharField(
        label="The account's name",
        widget=forms.TextInput(attrs={"autocomplete": "off", "spellcheck": "false"}),
    )
    password = forms.CharField(
        max_length=PASSWORD_LENGTH_MAX,
        strip=False,
        widget=forms.PasswordInput(attrs={"autocomplete": "current-password"}),
    )

    def __init__(self, *args: Any, request: SignedInRequest, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.request, self.user = request, request.user
        self.fields["name"].help_text = f"Type {self.user.username} to confirm."

    def clean_name(self) -> str:
        if self.cleaned_data["name"] != self.user.username:
            raise forms.ValidationError(f"This is not {self.user.username}. Nothing was deleted.")
        return self.user.username

    def clean_password(self) -> str:
        try:
            require_password(self.request, self.user, self.cleaned_data["password"])
        except Refusal as refusal:
            if refusal.retry_after_s is not None:
                raise
            raise forms.ValidationError(refusal.message) from refusal
        return ""
