"""Queues and failed jobs for programs of staff."""

from drf_spectacular.utils import extend_schema
from rest_framework.response import Response

from hub_site.accounts.requests import SignedInApiRequest
from hub_site.accounts.staff import StaffApi
from hub_site.common.api_errors import refusals
from hub_site.operations import selectors
from hub_site.operations.serializers import JobsSerializer


class JobsApi(StaffApi):
    @extend_schema(
        operation_id="staff_jobs",
        summary="List queues, workers and failed jobs",
        tags=["staff"],
        responses={200: JobsSerializer, **refusals(401, 404)},
    )
    def get(self, request: SignedInApiRequest) -> Response:
        """How much waits for which workers, what is put off, and what failed in the last week, by code."""
        found = {
            "queues": selectors.queue_states(),
            "workers": selectors.worker_states(),
            "put_off": selectors.put_off_jobs(),
            "failures": selectors.failure_counts(),
            "failed": selectors.failed_jobs(),
        }
        return Response(JobsSerializer(found).data)
