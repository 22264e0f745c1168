"""Where django-allauth asks us: may this name be an account's, and what comes with a new account."""

from collections.abc import Mapping
from typing import Any

from allauth.account.adapter import DefaultAccountAdapter
from allauth.account.signals import password_changed, password_reset, password_set, user_logged_in
from django.contrib import messages
from django.contrib.auth.signals import user_login_failed
from django.core.cache import cache
from django.core.exceptions import ValidationError
from django.db import transaction
from django.db.models import Q
from django.dispatch import receiver
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.urls import reverse
from django.utils.html import format_html

from hub_site.accounts.models import User
from hub_site.accounts.selectors import suspension_text
from hub_site.accounts.services import namespace_claim, tokens_revoke, username_check
from hub_site.audit.services import audit_record
from hub_site.common.errors import Refusal

NO_SUCH_ACCOUNT = (
    "No account matches this name and password. Check both, or use “Forgot your password?” below."
)

HOUR_S = 3600
FAILURES_NOTED = (1, 10, 100, 1000)  # within an hour, of one account


@receiver([password_changed, password_reset, password_set])
def revoke_if_wished(sender: object, request: HttpRequest, user: User, **kwargs: Any) -> None:
    """End the tokens that somebody may have made with the old password."""
    audit_record(actor=user, action="account.password", subject=user.username, thing=user)
    if "revoke_tokens" in request.POST:
        tokens_revoke(user=user)


@receiver(user_logged_in)
def note_sign_in(sender: object, request: HttpRequest, user: User, **kwargs: Any) -> None:
    """Its owner sees each sign-in in the account's history."""
    audit_record(actor=user, action="account.sign_in", subject=user.username, thing=user)


@receiver(user_login_failed)
def note_failed_sign_in(sender: object, credentials: Mapping[str, Any], **kwargs: Any) -> None:
    """Write wrong passwords down, as few as FAILURES_NOTED in an hour however many there are.

    An account sees its own in its history. Names that no account has count together, and are not kept:
    people type their password there.
    """
    named = str(credentials.get("username") or credentials.get("login") or credentials.get("email") or "")
    user = User.objects.filter(Q(username__iexact=named) | Q(email__iexact=named)).first() if named else None
    key = f"failed-sign-ins:{user.pk if user else 'nobody'}"
    cache.add(key, 0, HOUR_S)
    times = cache.incr(key)
    if times in FAILURES_NOTED:
        subject = user.username if user else "names that no account has"
        reason = f"wrong password number {times} within an hour"
        audit_record(
            actor=None,
            action="account.sign_in_failed",
            subject=subject,
            thing=user,
            times=times,
            reason=reason,
        )


class AccountAdapter(DefaultAccountAdapter):
    error_messages = DefaultAccountAdapter.error_messages | {
        "username_password_mismatch": NO_SUCH_ACCOUNT,
        "email_password_mismatch": NO_SUCH_ACCOUNT,
    }

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

    def respond_user_inactive(self, request: HttpRequest, user: User) -> HttpResponse:
        """Say why, to somebody whose password was right."""
        suspended = suspension_text(user) if user.suspended_at else ""
        return render(request, "account/account_inactive.html", {"suspended": suspended}, status=403)

    def post_login(self, request: HttpRequest, user: User, *, signup: bool, **kwargs: Any) -> HttpResponse:
        """A new account is told what to do first."""
        if signup:
            welcome = 'Welcome, {}. A first step: <a href="{}">compose an adapter for a ready-made task</a>.'
            messages.success(request, format_html(welcome, user.username, reverse("composer:new")))
        response: HttpResponse = super().post_login(request, user, signup=signup, **kwargs)
        return response
