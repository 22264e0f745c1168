from django.urls import path

from modules_registry.importing import views

app_name = "importing"

urlpatterns = [
    path("", views.import_list, name="list"),
    path("new/", views.import_new, name="new"),
    path("<uuid:import_id>/", views.import_page, name="import"),
    path("<uuid:import_id>/progress/", views.import_progress, name="progress"),
    path("<uuid:import_id>/cancel/", views.import_cancel_page, name="cancel"),
    path("<uuid:import_id>/again/", views.import_again_page, name="again"),
]
