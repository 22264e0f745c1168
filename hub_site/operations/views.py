"""The page of queues and failed jobs, for staff; and the metrics, for Prometheus and for staff."""

from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import render
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_safe

from hub_site.accounts.requests import SignedInRequest
from hub_site.accounts.staff import for_staff
from hub_site.common.process_metrics import has_metrics_token
from hub_site.operations import metrics as site_metrics
from hub_site.operations import selectors


@for_staff
@never_cache
@require_safe
def jobs_page(request: SignedInRequest) -> HttpResponse:
    context = {
        "queues": selectors.queue_states(),
        "workers": selectors.worker_states(),
        "put_off": selectors.put_off_jobs(),
        "counts": selectors.failure_counts(),
        "failed": selectors.failed_jobs(),
        "days": selectors.FAILED_SINCE.days,
    }
    return render(request, "operations/jobs.html", context)


@never_cache
@require_safe
def metrics(request: HttpRequest) -> HttpResponse:
    """For everybody else the address does not exist."""
    if not may_read_metrics(request):
        raise Http404
    return HttpResponse(site_metrics.exposition(), content_type=site_metrics.CONTENT_TYPE)


def may_read_metrics(request: HttpRequest) -> bool:
    """Whoever sends HUB_METRICS_TOKEN may, also while the database is away; and staff who are signed in."""
    return has_metrics_token(request.headers.get("Authorization", "")) or bool(
        getattr(request.user, "is_staff", False)
    )
