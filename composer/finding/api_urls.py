from django.urls import path

from composer.finding import api

urlpatterns = [
    path("find", api.FindApi.as_view(), name="api-find"),
    path("find/<uuid:search_id>", api.SearchApi.as_view(), name="api-example-search"),
]
