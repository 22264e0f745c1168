from django.http import HttpRequest

from hub_site.jobs.models import WorkerRequest


def worker_requests(request: HttpRequest) -> dict[str, int]:
    """How many requests for a worker staff have to answer; nothing to all others."""
    user = getattr(request, "user", None)
    if user is None or not user.is_staff:
        return {}
    return {"n_worker_requests": WorkerRequest.objects.count()}
