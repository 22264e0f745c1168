from django.urls import path

from composer.playground import views

app_name = "trying"

urlpatterns = [
    path("modules/<namespace:namespace>/<repo:name>/", views.module_try, name="module"),
    path("modules/<namespace:namespace>/<repo:name>/<str:revision>/", views.module_try, name="version"),
    path("compare/", views.compare_try, name="compare"),
    path("answers/", views.answers_page, name="answers"),
    path("compositions/<uuid:composition_id>/", views.composition_try, name="composition"),
    path("<uuid:tryout_id>/", views.tryout_page, name="tryout"),
]
