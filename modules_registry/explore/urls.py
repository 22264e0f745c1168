from django.urls import path

from modules_registry.explore import views

app_name = "explore"

urlpatterns = [
    path("weights", views.weights_page, name="weights"),
    path("similar", views.similar_page, name="similar"),
    path("compatible", views.compatible_page, name="compatible"),
    path("changes", views.changes_page, name="changes"),
    path("blob/<path:address>", views.file_page, name="file"),
]
