from django.apps import AppConfig


class PagesConfig(AppConfig):
    name = "hub_site.pages"
    label = "pages"
