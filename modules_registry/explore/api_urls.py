from django.urls import path

from modules_registry.explore import api

urlpatterns = [
    path("modules/<namespace:namespace>/<repo:name>/strengths", api.StrengthsApi.as_view()),
    path("modules/<namespace:namespace>/<repo:name>/similar", api.SimilarApi.as_view()),
    path("modules/<namespace:namespace>/<repo:name>/copies", api.CopiesApi.as_view()),
    path("modules/<namespace:namespace>/<repo:name>/compatible", api.CompatibleApi.as_view()),
    path("modules/<namespace:namespace>/<repo:name>/changes", api.ChangesApi.as_view()),
    path("hashes/<str:digest>", api.HashApi.as_view()),
]
