from django.apps import AppConfig


class OperationsConfig(AppConfig):
    name = "hub_site.operations"
    label = "operations"
