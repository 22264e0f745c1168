from django.urls import path

from hub_site.pages import views

app_name = "pages"

urlpatterns = [
    path("", views.home, name="home"),
    path("help/", views.help_index, name="help"),
    path("help/picture.png", views.picture, name="picture"),
    path("help/<slug:slug>/", views.help_page, name="help-page"),
    path("limits/", views.limits_page, name="limits"),
    path(".well-known/security.txt", views.security_txt, name="security-txt"),
    path("styleguide/", views.styleguide, name="styleguide"),
]
