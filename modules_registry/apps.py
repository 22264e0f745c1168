from django.apps import AppConfig


class ModulesRegistryConfig(AppConfig):
    name = "modules_registry"

    def ready(self) -> None:
        from hub_site.common.readiness import check_storage  # the rows are there only now
        from modules_registry.blobs import ask_store

        check_storage(ask_store)
