from django.urls import path

from hub_site.pages import api

urlpatterns = [path("help", api.HelpApi.as_view())]
