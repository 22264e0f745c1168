from django.apps import AppConfig


class NotificationsConfig(AppConfig):
    name = "hub_site.notifications"
    label = "notifications"
