from datetime import timedelta

from django.conf import settings
from django.contrib.auth.decorators import login_required
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import render
from django.urls import reverse
from django.utils import timezone
from django.utils.safestring import mark_safe
from django.views.decorators.http import require_safe

from hub_site.audit.kept_pages import kept_for_strangers
from hub_site.common.share_pictures import SharePicture, picture_answer
from hub_site.pages import limits
from hub_site.pages.help_pages import GROUPS, PAGES, read_page
from hub_site.pages.help_search import QUERY_CHARACTERS_MAX, find_in_help
from hub_site.pages.home import home_view
from hub_site.pages.styleguide import styleguide_context

SITE_PICTURE = SharePicture(
    title="Compose LoRA modules",
    sentence="Publish them, find the ones that help, and compose them into one adapter for your task.",
    facts="A few examples in, one adapter out, and how good it is, measured",
)
SECURITY_TXT_LASTS = timedelta(days=180)  # at most a year, says the RFC
LOAD_SNIPPET = """\
from peft import PeftModel
from transformers import AutoModelForSeq2SeqLM

base = AutoModelForSeq2SeqLM.from_pretrained("path/to/the/base")
model = PeftModel.from_pretrained(base, "path/to/the/adapter")
"""


@require_safe
@kept_for_strangers
def home(request: HttpRequest) -> HttpResponse:
    return render(request, "pages/home.html", home_view(request.user) | {"load_snippet": LOAD_SNIPPET})


@require_safe
def picture(request: HttpRequest) -> HttpResponse:
    """What other programs show beside a link to a page that has no picture of its own."""
    return picture_answer(SITE_PICTURE)


@require_safe
def help_index(request: HttpRequest) -> HttpResponse:
    """All pages of the help; with words, the sections that have them."""
    query = request.GET.get("q", "").replace("\x00", "")[:QUERY_CHARACTERS_MAX].strip()
    context = {
        "groups": GROUPS,
        "query": query,
        "found": find_in_help(query) if query else [],
        "security_contact": settings.HUB_SECURITY_CONTACT,
    }
    return render(request, "pages/help.html", context)


@require_safe
def help_page(request: HttpRequest, slug: str) -> HttpResponse:
    if slug not in PAGES:
        raise Http404
    read = read_page(slug)
    context = {
        "page": PAGES[slug],
        "pages": PAGES.values(),
        "html": mark_safe(read.html_at(request.build_absolute_uri("/").rstrip("/"))),
        "contents": read.contents,
    }
    return render(request, "pages/help_page.html", context)


@require_safe
def security_txt(request: HttpRequest) -> HttpResponse:
    """Whom to tell of a fault (RFC 9116); where the operator has named nobody, the page that says how."""
    contact = settings.HUB_SECURITY_CONTACT or f"{settings.PUBLIC_ADDRESS}{reverse('pages:help')}#security"
    expires_at = timezone.now() + SECURITY_TXT_LASTS  # noqa: TID251  a date, held against no row
    lines = (
        f"Contact: {contact}",
        f"Expires: {expires_at:%Y-%m-%dT00:00:00Z}",
        f"Canonical: {settings.PUBLIC_ADDRESS}/.well-known/security.txt",
        "Preferred-Languages: en",
    )
    return HttpResponse("".join(f"{line}\n" for line in lines), content_type="text/plain; charset=utf-8")


@require_safe
def limits_page(request: HttpRequest) -> HttpResponse:
    return render(request, "pages/limits.html", {"groups": limits.groups()})


@login_required
@require_safe
def styleguide(request: HttpRequest) -> HttpResponse:
    """Every component once, for whoever builds the next page."""
    if not request.user.is_staff:
        raise Http404
    return render(request, "pages/styleguide.html", styleguide_context())
