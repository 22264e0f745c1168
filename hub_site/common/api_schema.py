"""What the description of the API says of every operation alike: ETags, RateLimit headers, examples."""

import json
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

Json = dict[str, Any]

EXAMPLES = Path(__file__).with_name("api_examples.json")  # by operation: "request" and "response"
JSON = "application/json"
ETAG = {
    "description": "The sha256 of the answer, shortened. Send it as If-None-Match.",
    "schema": {"type": "string"},
}
UNCHANGED = {"description": "Nothing changed since the answer that If-None-Match names."}
QUOTA_HEADERS = {
    "RateLimit-Policy": "The limits that this request counts against, and their windows in seconds.",
    "RateLimit": "What is left of each (r), and in how many seconds more is (t).",
}
LIMITED = "429"


def describe_headers(result: Json, **_: Any) -> Json:
    """A postprocessing hook: ETag and 304 of what is read, RateLimit of what counts against a limit."""
    for method, operation in operations_of(result):
        responses = operation["responses"]
        if method == "get" and JSON in responses.get("200", {}).get("content", {}):
            responses["200"].setdefault("headers", {})["ETag"] = ETAG
            responses.setdefault("304", UNCHANGED)
        for status in responses if LIMITED in responses else ():
            if status in ("201", "202", LIMITED):
                told = {name: header(text) for name, text in QUOTA_HEADERS.items()}
                responses[status].setdefault("headers", {}).update(told)
    return result


def add_examples(result: Json, **_: Any) -> Json:
    """A postprocessing hook: put the examples of EXAMPLES into bodies and answers."""
    examples = read_examples()
    for _method, operation in operations_of(result):
        example = examples.get(operation["operationId"], {})
        if "request" in example:
            for body in operation["requestBody"]["content"].values():
                body["example"] = example["request"]
        if "response" in example:
            first = min(status for status in operation["responses"] if status.startswith("2"))
            operation["responses"][first]["content"][JSON]["example"] = example["response"]
    return result


def header(text: str) -> Json:
    return {"description": text, "schema": {"type": "string"}}


def operations_of(result: Json) -> Iterator[tuple[str, Json]]:
    for path in result["paths"].values():
        for method, operation in path.items():
            if isinstance(operation, dict) and "operationId" in operation:
                yield method, operation


@cache
def read_examples() -> dict[str, Json]:
    examples: dict[str, Json] = json.loads(EXAMPLES.read_text())
    return examples
