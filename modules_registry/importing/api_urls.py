from django.urls import path

from modules_registry.importing import api

urlpatterns = [
    path("imports", api.ImportsApi.as_view()),
    path("imports/<uuid:import_id>", api.ImportApi.as_view()),
    path("imports/<uuid:import_id>/cancel", api.ImportCancelApi.as_view()),
    path("imports/<uuid:import_id>/again", api.ImportAgainApi.as_view()),
]
