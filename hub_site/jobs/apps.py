from django.apps import AppConfig


class JobsConfig(AppConfig):
    name = "hub_site.jobs"
    label = "jobs"

    def ready(self) -> None:
        from hub_site.jobs.requests import note_requests_of_jobs  # the models of all apps are loaded now

        note_requests_of_jobs()
