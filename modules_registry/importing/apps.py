from django.apps import AppConfig


class ImportingConfig(AppConfig):
    name = "modules_registry.importing"
