"""Whatever the OpenAPI document allows, and much that it forbids, is answered as it says."""

from __future__ import annotations

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis import GenerationMode
from schemathesis.specs.openapi.checks import positive_data_acceptance
from small_server import serving

from hornbook.serving.limits import Limits
from hornbook.serving.texts import Making, Texts


@pytest.fixture(scope="module")
def described(tmp_path_factory):
    limits = Limits(per_minute=10**6, new_tokens=64)
    texts = Texts(tmp_path_factory.mktemp("kept") / "texts.sqlite")
    texts.add("A title", "a text", Making(None, {}))
    with serving(limits=limits, texts=texts) as server:
        yield schemathesis.openapi.from_url(f"{server.url}/openapi.json")


OPERATIONS = [
    *(("post", f"/v1/{name}") for name in ("chat/completions", "completions")),
    *(("post", f"/v1/{name}") for name in ("embeddings", "classify")),
    *(("post", path) for path in ("/v1/texts", "/v1/texts/{id}")),
    *(("get", path) for path in ("/v1/texts", "/v1/texts/{id}")),
    ("delete", "/v1/texts/{id}"),
    *(("get", path) for path in ("/v1/models", "/v1/models/{name}", "/health", "/metrics")),
]


def test_every_operation_is_tried(described):
    found = {(o.ok().method, o.ok().path) for o in described.get_all_operations()}
    assert found == set(OPERATIONS)


@pytest.mark.parametrize("mode", list(GenerationMode), ids=lambda mode: mode.value)
@pytest.mark.parametrize(("method", "path"), OPERATIONS)
def test_what_the_document_says_is_what_happens(described, method, path, mode):
    if method == "get" and mode is GenerationMode.NEGATIVE:
        return  # nothing is asked, so nothing can be asked wrongly
    # What a schema cannot say may be refused: an empty prompt, a best_of that is not n.
    operation = described[path][method]

    @settings(
        max_examples=8,
        deadline=None,
        database=None,
        derandomize=True,
        phases=(Phase.explicit, Phase.generate),
        suppress_health_check=list(HealthCheck),
    )
    @given(case=operation.as_strategy(generation_mode=mode))
    def check(case):
        response = case.call()
        assert response.status_code < 500
        case.validate_response(response, excluded_checks=[positive_data_acceptance])

    check()
