from django.apps import AppConfig


class AuditConfig(AppConfig):
    name = "hub_site.audit"
    label = "audit"
