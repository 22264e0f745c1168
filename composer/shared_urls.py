"""What a private link opens: the report and its files, to read and to take along."""

from django.urls import path

from composer import share_views
from composer.report.exports import FILES

app_name = "shared"

urlpatterns = [
    path("", share_views.shared_report, name="report"),
    path("adapter.zip", share_views.shared_adapter, name="adapter"),
    *(path(name, share_views.shared_file, {"name": name}) for name in FILES),
]
