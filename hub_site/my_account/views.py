"""One's own account: what it uses, what it was told, its data to export, its end."""

from django.contrib import messages
from django.contrib.auth import logout
from django.contrib.auth.decorators import login_required
from django.core.paginator import Paginator
from django.http import HttpResponse
from django.http.response import HttpResponseBase
from django.shortcuts import redirect, render
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from hub_site.accounts.requests import SignedInRequest
from hub_site.common.downloads import serve_download
from hub_site.common.errors import Refusal
from hub_site.my_account.export import account_export
from hub_site.my_account.forms import DeleteAccountForm
from hub_site.my_account.quotas import all_quotas
from hub_site.my_account.services import account_delete, consequences, session_end
from hub_site.notifications.models import MAILED_BY_CHOICE
from hub_site.notifications.selectors import mailed_kinds, notifications_of
from hub_site.notifications.services import mail_choose, notifications_read

NOTIFICATIONS_PAGE_SIZE = 30
DIGITS_MAX = 19  # of a row's key


@login_required
@require_safe
def account(request: SignedInRequest) -> HttpResponse:
    return render(request, "my_account/account.html", {"owners": all_quotas(request.user)})


@login_required
@require_safe
def notifications(request: SignedInRequest) -> HttpResponse:
    """What the account was told, newest first, and what it wants by mail."""
    only_unread = request.GET.get("show") == "unread"
    found = notifications_of(request.user, only_unread=only_unread)
    page = Paginator(found, NOTIFICATIONS_PAGE_SIZE).get_page(request.GET.get("page"))
    context = {
        "page": page,
        "only_unread": only_unread,
        "kinds": MAILED_BY_CHOICE,
        "mailed": mailed_kinds(request.user),
    }
    return render(request, "my_account/notifications.html", context)


@login_required
@require_POST
def read(request: SignedInRequest) -> HttpResponse:
    """Mark one notification as read, or all of them."""
    number = request.POST.get("id", "")
    is_one = number.isascii() and number.isdecimal() and len(number) < DIGITS_MAX
    if number and not is_one:
        return redirect("my_account:notifications")
    notifications_read(user=request.user, ids=[int(number)] if number else None)
    return redirect("my_account:notifications")


@login_required
@require_POST
def choose_mail(request: SignedInRequest) -> HttpResponse:
    mail_choose(user=request.user, kinds=request.POST.getlist("mail"))
    messages.success(request, "Changes saved.")
    return redirect("my_account:notifications")


@login_required
@require_POST
def export(request: SignedInRequest) -> HttpResponseBase:
    return serve_download(request, account_export(request.user))


@login_required
@require_POST
def end_session(request: SignedInRequest, number: int) -> HttpResponse:
    """Sign out one browser; this one too, if it is that."""
    session_end(user=request.user, number=number)
    messages.success(request, "Session ended.")
    return redirect("usersessions_list")


@login_required
@require_http_methods(["GET", "POST"])
def delete(request: SignedInRequest) -> HttpResponse:
    """Say what goes and what stays; with name and password, do it."""
    form = DeleteAccountForm(request.POST or None, request=request)
    if form.is_valid():
        try:
            account_delete(user=request.user)
        except Refusal as refusal:
            form.add_error(None, refusal.message)
        else:
            logout(request)
            messages.success(request, "Account deleted.")
            return redirect("/")
    context = {"form": form, "after": consequences(request.user)}
    return render(request, "my_account/delete.html", context)
