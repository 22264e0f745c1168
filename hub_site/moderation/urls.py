"""Reporting, for everybody; deciding, for staff."""

from django.urls import path

from hub_site.moderation import views

app_name = "moderation"

urlpatterns = [
    path("staff/", views.queue, name="queue"),
    path("staff/things/<str:kind>/<str:key>/", views.thing_page, name="thing"),
    path("staff/accounts/", views.account_search, name="accounts"),
    path("staff/accounts/<namespace:namespace>/", views.account_page, name="account"),
    path("shared/<str:token>/report/", views.report_shared, name="report-shared"),
    path("<namespace:namespace>/<repo:name>/report", views.report_module, name="report-module"),
]
