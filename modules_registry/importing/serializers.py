"""What the API says of imports, and what it asks for."""

from typing import Any

from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers

from hub_site.accounts.names import NAME_LENGTH_MAX
from hub_site.common.api_inputs import BoundedListField, InputSerializer
from hub_site.jobs.models import Status
from modules_registry.importing import selectors
from modules_registry.importing.models import (
    REPO_ID_LENGTH_MAX,
    REVISION_LENGTH_MAX,
    ImportItem,
    ModuleImport,
)
from modules_registry.serializers import FULL_NAME_LENGTH_MAX, OriginSerializer

SOURCE_LENGTH_MAX = 500  # an address from a browser is longer than the name in it


SOURCES_MAX = 10_000  # named at once; how many repositories they may lead to, a setting says


class ImportInput(InputSerializer):
    """What to bring in from the Hub."""

    sources = BoundedListField(
        child=serializers.CharField(max_length=SOURCE_LENGTH_MAX),
        allow_empty=False,
        max_length=SOURCES_MAX,
        help_text="“owner/name”, “owner/name@revision”, or “owner” for everything of theirs.",
    )
    namespace = serializers.CharField(
        required=False, max_length=NAME_LENGTH_MAX, help_text="Whose modules they become. Default: yours."
    )
    base = serializers.CharField(
        required=False,
        allow_blank=True,
        max_length=FULL_NAME_LENGTH_MAX,
        help_text="The base model of all of them, in place of what they name.",
    )


class ImportItemSerializer(serializers.Serializer[ImportItem]):
    """One repository of an import."""

    repo_id = serializers.CharField(max_length=REPO_ID_LENGTH_MAX)
    revision = serializers.CharField(
        max_length=REVISION_LENGTH_MAX, help_text="Asked for; empty: the newest."
    )
    state = serializers.ChoiceField(choices=ImportItem.State.choices)
    code = serializers.CharField(help_text="Of the refusal; empty without one.")
    message = serializers.CharField(help_text="Why it was refused.")
    module = serializers.SerializerMethodField(help_text="“owner/name” here, once it is there.")
    commit_id = serializers.CharField(source="version.commit_id", allow_null=True, default=None)
    origin = OriginSerializer(source="version.origin", allow_null=True, default=None)
    finished_at = serializers.DateTimeField(allow_null=True)

    @extend_schema_field(serializers.CharField(allow_null=True))
    def get_module(self, item: ImportItem) -> str | None:
        return item.version.module.full_name if item.version else None


class CountsSerializer(serializers.Serializer[selectors.Counts]):
    waiting = serializers.IntegerField()
    imported = serializers.IntegerField()
    unchanged = serializers.IntegerField(help_text="Were here already, at that commit.")
    refused = serializers.IntegerField()


class ImportSerializer(serializers.Serializer[ModuleImport]):
    """An import as a list shows it."""

    id = serializers.UUIDField()
    status = serializers.ChoiceField(choices=Status.choices)
    is_finished = serializers.BooleanField()
    cancel_requested = serializers.BooleanField()
    sources = serializers.ListField(child=serializers.CharField())
    namespace = serializers.CharField(source="namespace.name")
    base = serializers.CharField(source="base_name")
    counts = serializers.SerializerMethodField(help_text="Of its repositories; zeros until they are listed.")
    error_code = serializers.CharField(help_text="Why the whole import failed; empty if it did not.")
    error_message = serializers.CharField()
    created_at = serializers.DateTimeField()
    finished_at = serializers.DateTimeField(allow_null=True)
    url = serializers.SerializerMethodField(help_text="Its page.")

    @extend_schema_field(CountsSerializer)
    def get_counts(self, job: ModuleImport) -> dict[str, int]:
        return dict(CountsSerializer(selectors.counts_of(job)).data)

    @extend_schema_field(OpenApiTypes.URI)
    def get_url(self, job: ModuleImport) -> str:
        address: str = self.context["request"].build_absolute_uri(job.get_absolute_url())
        return address


class ImportDetailSerializer(ImportSerializer):
    """An import with what became of each of its repositories."""

    items = serializers.SerializerMethodField()

    @extend_schema_field(ImportItemSerializer(many=True))
    def get_items(self, job: ModuleImport) -> list[dict[str, Any]]:
        items: Any = selectors.items_of(job)
        return list(ImportItemSerializer(items, many=True).data)


class ImportPageSerializer(serializers.Serializer[dict[str, Any]]):
    count = serializers.IntegerField()
    next = serializers.URLField(allow_null=True)
    previous = serializers.URLField(allow_null=True)
    results = ImportSerializer(many=True)
