"""The page on which a composition becomes a module; the report has the same form."""

from uuid import UUID

from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_http_methods

from composer.access import get_own_composition
from composer.models import Composition
from composer.publish.forms import PublishForm, publish_panel
from composer.publish.plan import publication_plan
from composer.publish.services import composition_publish
from hub_site.accounts.requests import SignedInRequest
from hub_site.common.errors import Refusal
from modules_registry.forms import add_refusal
from modules_registry.views import site_of


@login_required
@never_cache
@require_http_methods(["GET", "POST"])
def composition_publish_page(request: SignedInRequest, composition_id: UUID) -> HttpResponse:
    composition = get_own_composition(request.user, composition_id)
    if not composition.is_done or composition.published_module:
        return redirect(composition.published_module or composition)
    if request.method == "GET":
        return page(request, composition)
    try:
        form = PublishForm(request.POST, owner=request.user, plan=publication_plan(composition, private=True))
    except Refusal:
        return page(request, composition, status=409)
    if not form.is_valid():
        return page(request, composition, form, status=422)
    try:
        module, _ = composition_publish(
            owner=request.user, composition_id=composition_id, site=site_of(request), **form.cleaned_data
        )
    except Refusal as refusal:
        add_refusal(form, refusal)
        return page(request, composition, form, status=422)
    messages.success(request, f"{module.full_name} published.")
    return redirect(module)


def page(
    request: HttpRequest, composition: Composition, form: PublishForm | None = None, status: int = 200
) -> HttpResponse:
    """With `form` instead of a fresh one, if there is one with something to say."""
    context = {"composition": composition, **publish_panel(composition, form)}
    return render(request, "composer/composition_publish.html", context, status=status)
