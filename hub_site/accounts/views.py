from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.core.paginator import Paginator
from django.http import Http404, HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from hub_site.accounts.forms import InviteForm, OrganizationForm, TokenForm
from hub_site.accounts.models import Invitation, Membership
from hub_site.accounts.organizations import (
    invitation_accept,
    invitation_decline,
    invitation_of_mail,
    invitation_withdraw,
    invitations_for,
    member_change,
    member_invite,
    member_remove,
    members_of,
    memberships_of,
    organization_find,
)
from hub_site.accounts.requests import SignedInRequest
from hub_site.accounts.selectors import tokens_of
from hub_site.accounts.services import organization_create, token_create, token_revoke
from hub_site.audit.selectors import history_lines, history_of_account
from hub_site.common.errors import Refusal

HISTORY_PAGE_SIZE = 50


@login_required
@require_http_methods(["GET", "POST"])
def tokens(request: SignedInRequest) -> HttpResponse:
    """A person's tokens; a new one is shown on this answer and never again."""
    form = TokenForm(request.POST or None)
    new_token = sign_in_snippet = None
    if form.is_valid():
        try:
            _, new_token = token_create(user=request.user, **form.cleaned_data)
        except Refusal as refusal:
            form.add_error("limited_to", refusal.message)
    if new_token:
        form = TokenForm()
        site = request.build_absolute_uri("/").rstrip("/")
        sign_in_snippet = f"export HF_ENDPOINT={site}\nhf auth login --token {new_token}"
    context = {
        "form": form,
        "new_token": new_token,
        "sign_in_snippet": sign_in_snippet,
        "tokens": tokens_of(request.user),
    }
    response = render(request, "accounts/tokens.html", context)
    response["Cache-Control"] = "no-store"
    return response


@login_required
@require_safe
def history(request: SignedInRequest) -> HttpResponse:
    """What an account did, and what was done to it."""
    entries = history_of_account(request.user)
    page = Paginator(entries, HISTORY_PAGE_SIZE).get_page(request.GET.get("page"))
    return render(request, "accounts/history.html", {"page": page, "lines": history_lines(page.object_list)})


@login_required
@require_POST
def token_delete(request: SignedInRequest, token_id: int) -> HttpResponse:
    token_revoke(user=request.user, token_id=token_id)
    messages.success(request, "Token revoked. Programs that used it are signed out.")
    return redirect("accounts:tokens")


@login_required
@require_http_methods(["GET", "POST"])
def organizations(request: SignedInRequest) -> HttpResponse:
    """Those one belongs to, those that ask one to join, and a new one."""
    form = OrganizationForm(request.POST or None)
    if form.is_valid():
        try:
            founded = organization_create(founder=request.user, name=form.cleaned_data["name"])
        except Refusal as refusal:
            form.add_error("name", refusal.message)
        else:
            messages.success(request, f"{founded.name} was created. Invite others, or upload a module to it.")
            return redirect("accounts:organization", founded.name)
    context = {
        "form": form,
        "memberships": memberships_of(request.user),
        "invitations": invitations_for(request.user),
    }
    return render(request, "accounts/organizations.html", context)


def own_membership(request: SignedInRequest, name: str) -> Membership:
    membership = organization_find(name, request.user)
    if membership is None:
        raise Http404
    return membership


@login_required
@require_http_methods(["GET", "POST"])
def organization(request: SignedInRequest, namespace: str) -> HttpResponse:
    """Who belongs to it and as what; its owners invite."""
    membership = own_membership(request, namespace)
    form = InviteForm(request.POST or None)
    if form.is_valid():
        try:
            invited = member_invite(actor=request.user, namespace=membership.namespace, **form.cleaned_data)
        except Refusal as refusal:
            form.add_error("who" if "who" in refusal.fields else None, refusal.message)
        else:
            messages.success(request, f"Invited {invited.of_whom}.")
            return redirect("accounts:organization", membership.namespace.name)
    context = {
        "organization": membership.namespace,
        "mine": membership,
        "is_owner": membership.role == Membership.Role.ADMIN,
        "members": members_of(membership.namespace),
        "invitations": membership.namespace.invitations.select_related("user"),
        "roles": Membership.Role.choices,
        "form": form,
    }
    return render(request, "accounts/organization.html", context)


@login_required
@require_POST
def member(request: SignedInRequest, namespace: str, member: str) -> HttpResponse:
    """Another role, or none any more: of others, or of oneself, who leaves."""
    found = own_membership(request, namespace).namespace
    try:
        if "remove" in request.POST:
            member_remove(actor=request.user, namespace=found, member=member)
            messages.success(request, f"{member} was removed from {found.name}.")
        else:
            role = request.POST.get("role", "")
            member_change(actor=request.user, namespace=found, member=member, role=role)
            messages.success(request, "Changes saved.")
    except Refusal as refusal:
        messages.error(request, refusal.message)
    if organization_find(namespace, request.user) is None:
        return redirect("accounts:organizations")
    return redirect("accounts:organization", found.name)


@login_required
@require_POST
def withdraw_invitation(request: SignedInRequest, namespace: str, number: int) -> HttpResponse:
    found = own_membership(request, namespace).namespace
    try:
        invitation_withdraw(actor=request.user, namespace=found, number=number)
    except Refusal as refusal:
        messages.error(request, refusal.message)
    return redirect("accounts:organization", found.name)


@login_required
@require_POST
def answer_invitation(request: SignedInRequest, number: int) -> HttpResponse:
    """Yes or no to an invitation that is in one's list."""
    found = invitations_for(request.user).filter(pk=number).first()
    if found is None:
        raise Http404
    return answer_to(request, found)


@login_required
@require_http_methods(["GET", "POST"])
def invitation(request: SignedInRequest, token: str) -> HttpResponse:
    """What the link of a mail leads to."""
    found = invitation_of_mail(token)
    if found is None:
        raise Http404
    if request.method == "POST":
        return answer_to(request, found)
    return render(request, "accounts/invitation.html", {"invitation": found})


def answer_to(request: SignedInRequest, found: Invitation) -> HttpResponse:
    if "decline" in request.POST:
        invitation_decline(user=request.user, invitation=found)
        return redirect("accounts:organizations")
    try:
        joined = invitation_accept(user=request.user, invitation=found)
    except Refusal as refusal:
        messages.error(request, refusal.message)
        return redirect("accounts:organizations")
    messages.success(request, f"You joined {joined.namespace.name}.")
    return redirect("accounts:organization", joined.namespace.name)
