from django.apps import AppConfig


class TryingConfig(AppConfig):
    name = "composer.playground"
    label = "trying"  # the tables are named after it
