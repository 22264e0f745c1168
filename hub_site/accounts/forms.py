from typing import Any

from allauth.account import forms as allauth_forms
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


class LoginForm(allauth_forms.LoginForm):
    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["login"].label = "Username or e-mail"
        self.fields["login"].widget.attrs["placeholder"] = ""
        self.fields["remember"].label = "Remember me"
        self.fields["password"].help_text = ""  # the page has one link to a new password, beside the button


class SignupForm(allauth_forms.SignupForm):
    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        say_e_mail(self.fields["email"])


class ResetPasswordForm(allauth_forms.ResetPasswordForm):
    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        say_e_mail(self.fields["email"])


class AddEmailForm(allauth_forms.AddEmailForm):
    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        say_e_mail(self.fields["email"])


def say_e_mail(field: forms.Field) -> None:
    """One spelling on every page."""
    field.label = "E-mail"
    field.widget.attrs["placeholder"] = ""
