from django.urls import path

from composer.finding import views

app_name = "finding"

urlpatterns = [
    path("", views.find, name="find"),
    path("<uuid:search_id>/", views.search_page, name="search"),
]
