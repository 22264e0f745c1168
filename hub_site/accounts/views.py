from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.core.paginator import Paginator
from django.http import HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from hub_site.accounts.forms import TokenForm
from hub_site.accounts.requests import SignedInRequest
from hub_site.accounts.selectors import tokens_of
from hub_site.accounts.services import token_create, token_revoke
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
    messages.success(request, "The token is revoked. Programs that used it are signed out.")
    return redirect("accounts:tokens")
