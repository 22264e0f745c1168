from django.apps import AppConfig


class TryingConfig(AppConfig):
    name = "composer.trying"
