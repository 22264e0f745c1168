from django.urls import path

from hub_site.moderation import api

urlpatterns = [
    path("modules/<namespace:namespace>/<repo:name>/reports", api.ModuleReportsApi.as_view()),
    path("shared/<str:token>/reports", api.SharedReportsApi.as_view()),
    path("staff/queue", api.QueueApi.as_view()),
    path("staff/things/<str:kind>/<str:key>", api.ThingApi.as_view()),
    path("staff/accounts/<namespace:namespace>", api.AccountDecisionApi.as_view()),
]
