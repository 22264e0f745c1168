from django.urls import path

from composer.playground import api

urlpatterns = [
    path("modules/<namespace:namespace>/<repo:name>/try", api.ModuleTryApi.as_view()),
    path("compositions/<uuid:composition_id>/try", api.CompositionTryApi.as_view()),
    path("tryouts/<uuid:tryout_id>", api.TryOutApi.as_view()),
]
