from typing import Any

from django import forms

from hub_site.accounts.models import User


class DeleteAccountForm(forms.Form):
    name = forms.CharField(
        label="The account's name",
        widget=forms.TextInput(attrs={"autocomplete": "off", "spellcheck": "false"}),
    )
    password = forms.CharField(widget=forms.PasswordInput(attrs={"autocomplete": "current-password"}))

    def __init__(self, *args: Any, user: User, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.user = user
        self.fields["name"].help_text = f"Type {user.username} to confirm."

    def clean_name(self) -> str:
        if self.cleaned_data["name"] != self.user.username:
            raise forms.ValidationError(f"This is not {self.user.username}. Nothing was deleted.")
        return self.user.username

    def clean_password(self) -> str:
        if not self.user.check_password(self.cleaned_data["password"]):
            raise forms.ValidationError("This is not your password. Nothing was deleted.")
        return ""
