from django.apps import AppConfig


class JobsConfig(AppConfig):
    name = "hub_site.jobs"
    label = "jobs"
