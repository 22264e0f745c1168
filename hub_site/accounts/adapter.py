"""Where django-allauth asks us: may this name be an account's, and what comes with a new account."""

from typing import Any

from allauth.account.adapter import DefaultAccountAdapter
from django.core.exceptions import ValidationError
from django.db import transaction
from django.http import HttpRequest

from hub_site.accounts.models import User
from hub_site.accounts.services import namespace_claim, username_check
from hub_site.common.errors import Refusal


class AccountAdapter(DefaultAccountAdapter):
    def clean_username(self, username: str, shallow: bool = False) -> str:
        try:
            return username_check(username)
        except Refusal as refusal:
            raise ValidationError(refusal.message, code=refusal.code) from refusal

    @transaction.atomic
    def save_user(self, request: HttpRequest, user: User, form: Any, commit: bool = True) -> User:
        """Save the account and its namespace together: neither exists without the other."""
        user = super().save_user(request, user, form, commit=commit)
        if commit:
            namespace_claim(user=user)
        return user
