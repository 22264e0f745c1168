from django.apps import AppConfig
from django.contrib.auth.signals import user_logged_in


class ComposerConfig(AppConfig):
    name = "composer"

    def ready(self) -> None:
        from composer.access import adopt_guest

        user_logged_in.connect(adopt_guest, dispatch_uid="composer.adopt_guest")
