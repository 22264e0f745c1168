"""What a private link opens: the report and its files, to read and to take along."""

from django.urls import path

from composer.report.exports import FILES
from composer.share import views

app_name = "shared"

urlpatterns = [
    path("", views.shared_report, name="report"),
    path("adapter.zip", views.shared_adapter, name="adapter"),
    path("adapters/<str:key>.zip", views.shared_baseline_adapter, name="baseline-adapter"),
    *(path(name, views.shared_file, {"name": name}) for name in FILES),
]
