"""How the site stands: a page for staff, and the metrics for Prometheus."""

from django.urls import path

from hub_site.operations import views

app_name = "operations"

urlpatterns = [
    path("metrics", views.metrics, name="metrics"),
    path("staff/jobs/", views.jobs_page, name="jobs"),
]
