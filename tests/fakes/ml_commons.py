"""ML Commons in the fake OpenSearch: connectors, models, pipelines and settings as 3.6 was seen to handle them.

What `lrem-os connect` depends on is kept: a connector in use cannot be deleted, a deployed model keeps the connector
that it had when it was deployed, a description holds no brackets, an index whose default pipeline is gone answers no
search.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass, field
from fnmatch import fnmatchcase

from lrem_os.search.ml_commons.bodies import Wanted
from tests.fakes.opensearch import Answer, Body, FakeOpenSearch, Request, _error

WANTED = Wanted(
    name="lrem-os",
    url="http://127.0.0.1:8099",
    key="secret",
    index="shop-v1",
    vector_field="v",
    dimension=8,
    fingerprint="abcdef",
    read_timeout_s=30,
    fusion={"phase_results_processors": [{"normalization-processor": {}}]},
    batch=64,
)
ENDPOINTS = "plugins.ml_commons.trusted_connector_endpoints_regex"
PRIVATE = "plugins.ml_commons.connector.private_ip_enabled"
ALLOWED = {ENDPOINTS: ["^http://127\\.0\\.0\\.1:[0-9]+/.*$"], PRIVATE: "true"}
_NO_SAFE_TEXT = re.compile(r"[^A-Za-z0-9\s.,!?():@\-_'/\"]")


@dataclass
class Stored:
    """What the plugin holds.

    Attributes:
        connectors: By id, as sent.
        groups: By id.
        models: By id.
        deployed: Model id → the connector as it was at that time, with its key.
        tasks: By id.
    """

    connectors: dict[str, Body] = field(default_factory=dict)
    groups: dict[str, Body] = field(default_factory=dict)
    models: dict[str, Body] = field(default_factory=dict)
    deployed: dict[str, Body] = field(default_factory=dict)
    tasks: dict[str, Body] = field(default_factory=dict)


class FakeMlCommons(FakeOpenSearch):
    """The server with the plugin. Use as a context manager.

    Attributes:
        ml: What the plugin holds.
        pipelines: ``search/NAME`` and ``ingest/NAME``.
        defaults: Cluster settings of the configuration file.
        persistent: Cluster settings that somebody set.
        plugins: What is installed.
        task: What becomes of tasks.
        predict: Answers for the service; a tuple of status and reason is an error.
        conflicts: Deployments that meet another one's write.
    """

    def __init__(self) -> None:
        super().__init__()
        self.ml = Stored()
        self.pipelines: dict[str, Body] = {}
        self.defaults: Body = dict(ALLOWED)
        self.persistent: Body = {}
        self.plugins = ["opensearch-knn", "opensearch-ml", "opensearch-neural-search"]
        self.task: Body = {"state": "COMPLETED"}
        self.predict: Callable[[Body, str], list[float] | tuple[int, str]] = lambda _connector, _kind: [0.25] * 8
        self.conflicts = 0
        self._ids = 0

    def _routes(self) -> list[tuple[str, str, Callable[..., Answer]]]:
        ml = "/_plugins/_ml"
        return [
            ("GET", "/_cat/plugins", lambda _request: (200, [{"component": name} for name in self.plugins])),
            ("GET", "/_cluster/settings", self._get_settings),
            ("PUT", "/_cluster/settings", self._put_cluster_settings),
            ("POST", f"{ml}/(connectors|models|model_groups)/_search", self._find_objects),
            ("POST", f"{ml}/connectors/_create", self._create_connector),
            ("DELETE", f"{ml}/connectors/([^/]+)", self._delete_connector),
            ("POST", f"{ml}/model_groups/_register", self._create_group),
            ("PUT", f"{ml}/model_groups/([^/]+)", self._update_group),
            ("DELETE", f"{ml}/model_groups/([^/]+)", self._delete_group),
            ("POST", f"{ml}/models/_register", self._create_model),
            ("PUT", f"{ml}/models/([^/]+)", self._update_model),
            ("DELETE", f"{ml}/models/([^/]+)", self._delete_model),
            ("POST", f"{ml}/models/([^/]+)/_deploy", self._deploy),
            ("POST", f"{ml}/models/([^/]+)/_undeploy", self._undeploy),
            ("POST", f"{ml}/models/([^/]+)/_predict", self._predict),
            ("GET", f"{ml}/tasks/([^/]+)", lambda _request, key: (200, self.ml.tasks[key])),
            ("GET", "/_(search|ingest)/pipeline/([^/]+)", self._get_pipeline),
            ("PUT", "/_(search|ingest)/pipeline/([^/]+)", self._put_pipeline),
            ("DELETE", "/_(search|ingest)/pipeline/([^/]+)", self._delete_pipeline),
            ("POST", "/_ingest/pipeline/([^/]+)/_simulate", self._simulate),
            ("GET", "/([^/]+)/_mapping/field/([^/]+)", self._field_mapping),
            ("GET", "/([^/]+)/_settings/([^/]+)", self._some_settings),
            ("PUT", "/([^/]+)/_settings", self._put_flat_settings),
            *super()._routes(),
        ]

    def _new_id(self, kind: str) -> str:
        self._ids += 1
        return f"{kind}-{self._ids}"

    def _get_settings(self, _request: Request) -> Answer:
        left = {key: value for key, value in self.defaults.items() if key not in self.persistent}
        return 200, {"defaults": left, "persistent": self.persistent, "transient": {}}

    def _put_cluster_settings(self, request: Request) -> Answer:
        for key, value in json.loads(request.body)["persistent"].items():
            if value is None:
                self.persistent.pop(key, None)
            else:
                self.persistent[key] = value if isinstance(value, list) else str(value).lower()
        return 200, {"acknowledged": True}

    def _find_objects(self, request: Request, kind: str) -> Answer:
        ((key, value),) = json.loads(request.body)["query"]["term"].items()
        name = key.removesuffix(".keyword")
        stored = {"connectors": self.ml.connectors, "models": self.ml.models, "model_groups": self.ml.groups}[kind]
        shown = {"credential"}
        hits = [
            {"_id": at, "_source": {field: one for field, one in row.items() if field not in shown}}
            for at, row in stored.items()
            if row.get(name) == value
        ]
        return 200, {"hits": {"hits": hits}}

    def _store(self, kind: str, into: dict[str, Body], body: Body) -> str | Answer:
        if _NO_SAFE_TEXT.search(str(body.get("description", ""))):
            return _error(400, "action_request_validation_exception", "description can only contain letters, …")
        at = self._new_id(kind)
        into[at] = {**body, "created_time": self._ids}
        return at

    def _create_connector(self, request: Request) -> Answer:
        body = json.loads(request.body)
        if not body.get("credential"):
            return _error(400, "illegal_argument_exception", "Connector credential is null or empty list")
        trusted = (self.defaults | self.persistent)[ENDPOINTS]
        if not any(re.fullmatch(pattern, body["actions"][0]["url"]) for pattern in trusted):
            return _error(400, "illegal_argument_exception", "Connector URL is not matching the trusted connector …")
        stored = self._store("connector", self.ml.connectors, body)
        return stored if isinstance(stored, tuple) else (200, {"connector_id": stored})

    def _delete_connector(self, _request: Request, at: str) -> Answer:
        using = [model for model, row in self.ml.models.items() if row["connector_id"] == at]
        if using:
            return _error(409, "status_exception", f"{len(using)} models are still using this connector: {using}")
        gone = self.ml.connectors.pop(at, None)
        return 200, {"result": "deleted" if gone else "not_found"}

    def _create_group(self, request: Request) -> Answer:
        body = json.loads(request.body)
        if any(row["name"] == body["name"] for row in self.ml.groups.values()):
            return _error(400, "illegal_argument_exception", "The name you provided is already being used")
        stored = self._store("group", self.ml.groups, body)
        return stored if isinstance(stored, tuple) else (200, {"model_group_id": stored, "status": "CREATED"})

    def _update_group(self, request: Request, at: str) -> Answer:
        body = json.loads(request.body)
        if _NO_SAFE_TEXT.search(body["description"]):
            return _error(400, "action_request_validation_exception", "description can only contain letters, …")
        self.ml.groups[at] |= body
        return 200, {"status": "Updated"}

    def _delete_group(self, _request: Request, at: str) -> Answer:
        if any(row["model_group_id"] == at for row in self.ml.models.values()):
            return _error(
                409, "status_exception", "Cannot delete the model group when it has associated model versions"
            )
        self.ml.groups.pop(at, None)
        return 200, {"result": "deleted"}

    def _done(self, model: str) -> str:
        task = self._new_id("task")
        self.ml.tasks[task] = {"model_id": model, **self.task}
        return task

    def _create_model(self, request: Request) -> Answer:
        body = json.loads(request.body)
        if body["connector_id"] not in self.ml.connectors or body["model_group_id"] not in self.ml.groups:
            return _error(404, "status_exception", "Failed to find connector or model group")
        stored = self._store("model", self.ml.models, body | {"model_state": "REGISTERED"})
        if isinstance(stored, tuple):
            return stored
        return 200, {"task_id": self._done(stored), "model_id": stored, "status": "CREATED"}

    def _update_model(self, request: Request, at: str) -> Answer:
        self.ml.models[at] |= json.loads(request.body)
        return 200, {"result": "updated"}

    def _delete_model(self, _request: Request, at: str) -> Answer:
        if at in self.ml.deployed:
            return _error(400, "status_exception", "Model cannot be deleted in deploying or deployed state")
        self.ml.models.pop(at, None)
        return 200, {"result": "deleted"}

    def _deploy(self, _request: Request, at: str) -> Answer:
        if self.conflicts > 0:
            self.conflicts -= 1
            return _error(409, "version_conflict_engine_exception", "version conflict")
        if self.task["state"] == "COMPLETED":
            self._load(at)
        return 200, {"task_id": self._done(at), "status": "CREATED"}

    def _load(self, at: str) -> None:
        """Deploy, unless it is: then nothing changes."""
        row = self.ml.models[at]
        if at not in self.ml.deployed:
            allowed = str((self.defaults | self.persistent).get(PRIVATE))
            self.ml.deployed[at] = deepcopy(self.ml.connectors[row["connector_id"]]) | {"private": allowed}
        row["model_state"] = "DEPLOYED"

    def _undeploy(self, _request: Request, at: str) -> Answer:
        was = self.ml.deployed.pop(at, None)
        if at in self.ml.models:
            self.ml.models[at]["model_state"] = "UNDEPLOYED"
        return 200, {"node": {"stats": {at: "undeployed" if was else "not_found"}}}

    def _predict(self, request: Request, at: str) -> Answer:
        if at not in self.ml.models:
            return _error(404, "status_exception", "Failed to find model")
        self._load(at)
        if self.ml.deployed[at]["private"] != "true":
            return _error(400, "illegal_argument_exception", "Remote inference host name has private ip address: x")
        result = self.predict(self.ml.deployed[at], json.loads(request.body)["parameters"]["content_type"])
        if isinstance(result, tuple):
            return _error(result[0], "status_exception", result[1])
        return 200, {"inference_results": [{"output": [{"name": "sentence_embedding", "data": result}]}]}

    def _get_pipeline(self, _request: Request, kind: str, name: str) -> Answer:
        body = self.pipelines.get(f"{kind}/{name}")
        return (404, {}) if body is None else (200, {name: body})

    def _put_pipeline(self, request: Request, kind: str, name: str) -> Answer:
        self.pipelines[f"{kind}/{name}"] = json.loads(request.body)
        return 200, {"acknowledged": True}

    def _delete_pipeline(self, _request: Request, kind: str, name: str) -> Answer:
        self.pipelines.pop(f"{kind}/{name}")
        return 200, {"acknowledged": True}

    def _simulate(self, request: Request, name: str) -> Answer:
        (processor,) = self.pipelines[f"ingest/{name}"]["processors"]
        ((source, target),) = processor["text_embedding"]["field_map"].items()
        [document] = json.loads(request.body)["docs"]
        vector = self.predict(self.ml.deployed[processor["text_embedding"]["model_id"]], "passage")
        return 200, {"docs": [{"doc": {"_source": {**document["_source"], target: vector}, "from": source}}]}

    def _field_mapping(self, _request: Request, name: str, wanted: str) -> Answer:
        index = self.indices[name]
        mapping = index.mapping["properties"].get(wanted)
        found = {} if mapping is None else {wanted: {"full_name": wanted, "mapping": {wanted: mapping}}}
        return 200, {name: {"mappings": found}}

    def _some_settings(self, _request: Request, names: str, wanted: str) -> Answer:
        pattern = names.split(",")[0]
        keys = set(wanted.split(","))
        found = {}
        for name, index in self.indices.items():
            settings = {key: value for key, value in index.settings.items() if key in keys}
            if fnmatchcase(name, pattern) and settings:
                found[name] = {"settings": settings}
        return 200, found

    def _put_flat_settings(self, request: Request, name: str) -> Answer:
        index = self.indices[name]
        merged = index.settings | json.loads(request.body)
        index.settings = {key: value for key, value in merged.items() if value is not None}
        return 200, {"acknowledged": True}

    def _search(self, request: Request, name: str) -> Answer:
        body = json.loads(request.body or b"{}")
        if "neural" not in json.dumps(body):
            return super()._search(request, name)
        index = self._find(name)
        pipeline = request.params.get("search_pipeline") or (
            index and index.settings.get("index.search.default_pipeline")
        )
        if f"search/{pipeline}" not in self.pipelines:
            return _error(400, "illegal_argument_exception", f"Pipeline {pipeline} is not defined")
        return 200, {"hits": {"hits": [{"_id": "p1", "_score": 1.5}]}}
