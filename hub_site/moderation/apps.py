from django.apps import AppConfig


class ModerationConfig(AppConfig):
    name = "hub_site.moderation"
    label = "moderation"
