"""What the API says of queues, workers and failed jobs."""

from typing import Any

from rest_framework import serializers


class QueueStateSerializer(serializers.Serializer[Any]):
    """One queue at this moment."""

    name = serializers.CharField(help_text="Stable: “compose-quick”.")
    label = serializers.CharField()  # type: ignore[assignment]  # a key of ours; DRF takes it for its own
    served_by = serializers.CharField(help_text="The workers that take its jobs.")
    waiting = serializers.IntegerField(help_text="Jobs that are due.")
    put_off = serializers.IntegerField(help_text="Jobs that are due later: they wait for a fault to pass.")
    running = serializers.IntegerField()
    oldest_wait_s = serializers.FloatField(help_text="Seconds that the oldest of them has been due; 0: none.")


class WorkerStateSerializer(serializers.Serializer[Any]):
    """The workers of one kind that are alive."""

    queue = serializers.CharField()
    workers = serializers.IntegerField(help_text="Processes.")
    places = serializers.IntegerField(help_text="Jobs that they do at once.")


class FailureCountSerializer(serializers.Serializer[Any]):
    """Failed jobs of one queue with one code."""

    queue = serializers.CharField()
    code = serializers.CharField()
    number = serializers.IntegerField()
    last_at = serializers.DateTimeField()


class FailedJobSerializer(serializers.Serializer[Any]):
    """A job that failed."""

    job_id = serializers.UUIDField()
    queue = serializers.CharField()
    at = serializers.DateTimeField()
    code = serializers.CharField()
    message = serializers.CharField(help_text="As its owner was told.")
    request_id = serializers.CharField(help_text="Of the request that asked for it, as in the log; or empty.")


class PutOffJobSerializer(serializers.Serializer[Any]):
    """A job that is due later."""

    job_id = serializers.UUIDField()
    queue = serializers.CharField()
    since = serializers.DateTimeField(allow_null=True, help_text="Since when it waits for a fault to pass.")
    due_at = serializers.DateTimeField(help_text="When it is tried again.")
    reason = serializers.CharField(help_text="The fault, as its owner is told; may be empty.")
    request_id = serializers.CharField(help_text="Of the request that asked for it, as in the log; or empty.")


class JobsSerializer(serializers.Serializer[Any]):
    """Queues and workers now, and what failed in the last seven days."""

    queues = QueueStateSerializer(many=True)
    workers = WorkerStateSerializer(many=True)
    put_off = PutOffJobSerializer(many=True, help_text="The 50 that are due next.")
    failures = FailureCountSerializer(many=True)
    failed = FailedJobSerializer(many=True, help_text="The newest 50.")
