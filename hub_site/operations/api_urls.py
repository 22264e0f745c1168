from django.urls import path

from hub_site.operations import api

urlpatterns = [path("staff/jobs", api.JobsApi.as_view())]
