from typing import Any

from allauth.account import forms as allauth_forms
from django import forms

from hub_site.accounts.models import ApiToken, Membership
from hub_site.accounts.names import NAME_LENGTH_MAX


class TokenForm(forms.Form):
    label = forms.CharField(max_length=60, help_text="Such as “laptop” or “training server”.")
    scope = forms.ChoiceField(
        choices=ApiToken.Scope.choices,
        initial=ApiToken.Scope.READ,
        help_text="“Read and write” may upload, compose and delete as you.",
    )
    limited_to = forms.CharField(
        required=False,
        label="Only for",
        help_text="An owner, or one module as “owner/name”. Leave empty for everything you own.",
    )
    days = forms.IntegerField(
        required=False,
        min_value=1,
        max_value=3650,
        label="Expires after (days)",
        help_text="Leave empty for no expiry.",
    )


class OrganizationForm(forms.Form):
    name = forms.CharField(max_length=NAME_LENGTH_MAX, help_text="The first part of its modules' addresses.")


class InviteForm(forms.Form):
    who = forms.CharField(
        max_length=254, label="Account", help_text="The name of an account, or a mail address."
    )
    role = forms.ChoiceField(
        choices=Membership.Role,
        initial=Membership.Role.READ,
        help_text="A reader sees its private modules, a writer changes modules, an owner also decides who "
        "belongs to it.",
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


class RevokesTokens(forms.Form):
    """A new password; `adapter.revoke_if_wished` then ends the tokens."""

    revoke_tokens = forms.BooleanField(
        required=False,
        label="Revoke my access tokens too",
        help_text="If somebody else may know the old password. Programs then need new tokens.",
    )


class ChangePasswordForm(RevokesTokens, allauth_forms.ChangePasswordForm):
    field_order = ["oldpassword", "password1", "password2", "revoke_tokens"]


class ResetPasswordKeyForm(RevokesTokens, allauth_forms.ResetPasswordKeyForm):
    field_order = ["password1", "password2", "revoke_tokens"]


class AddEmailForm(allauth_forms.AddEmailForm):
    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        say_e_mail(self.fields["email"])


def say_e_mail(field: forms.Field) -> None:
    """One spelling on every page."""
    field.label = "E-mail"
    field.widget.attrs["placeholder"] = ""
