from django.db.models.functions import Now
from django.http import HttpRequest

from hub_site.common.site_faults import noting
from hub_site.notifications.models import Notification

UNREAD_COUNTED_MAX = 100  # of more the header says "99+"


def unread_notifications(request: HttpRequest) -> dict[str, int]:
    """How many notifications of the reader are unread. Those that lead to this page become read."""
    user = getattr(request, "user", None)
    if user is None or not user.is_authenticated:
        return {}
    unread = Notification.objects.filter(user=user.pk).unread()
    paths = list(unread.values_list("path", flat=True)[:UNREAD_COUNTED_MAX])
    n_here = paths.count(request.path)
    if n_here:
        with noting("that notifications were read"):
            unread.filter(path=request.path).update(read_at=Now())
    return {"n_unread": len(paths) - n_here}
