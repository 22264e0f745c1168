from django.apps import AppConfig


class TryingConfig(AppConfig):
    name = "composer.trying"
    label = "trying"  # the tables are named after it
