from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.http import require_http_methods, require_POST

from hub_site.accounts.forms import TokenForm
from hub_site.accounts.selectors import tokens_of
from hub_site.accounts.services import token_create, token_revoke


@login_required
@require_http_methods(["GET", "POST"])
def tokens(request: HttpRequest) -> HttpResponse:
    """A person's tokens; a new one is shown on this answer and never again."""
    form = TokenForm(request.POST or None)
    new_token = None
    if form.is_valid():
        _, new_token = token_create(user=request.user, **form.cleaned_data)
        form = TokenForm()
    context = {"form": form, "new_token": new_token, "tokens": tokens_of(request.user)}
    response = render(request, "accounts/tokens.html", context)
    response["Cache-Control"] = "no-store"
    return response


@login_required
@require_POST
def token_delete(request: HttpRequest, token_id: int) -> HttpResponse:
    token_revoke(user=request.user, token_id=token_id)
    messages.success(request, "The token is revoked. Programs that used it are signed out.")
    return redirect("accounts:tokens")
