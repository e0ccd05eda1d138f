"""Requests and answers of the endpoints that are ours and not OpenSearch's; the OpenAPI page is made of them."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

Text = Annotated[str, Field(min_length=1)]


class EmbeddingRequest(BaseModel):
    """Texts to embed, as OpenAI's clients and ML Commons send them. Members that are not named here are ignored."""

    input: Text | Annotated[list[Text], Field(min_length=1, max_length=2048)] = Field(
        description="One text, or up to 2048; tokens are not taken."
    )
    model: str | None = Field(None, description="Ignored: the service has one model.")
    encoding_format: Literal["float", "base64"] = Field("float", description="base64: little-endian float32.")
    dimensions: int | None = Field(None, ge=1, description="Must be the model's own, if given.")
    input_type: Literal["query", "passage"] = Field(
        "query", description="query: read as a search is, with routing; passage: as a product is at ingest."
    )
    route: Literal["auto", "direct", "reasoned"] = Field("auto", description="Of queries.")


class EmbeddingRow(BaseModel):
    """One vector."""

    object: Literal["embedding"] = "embedding"
    index: int
    embedding: list[float] | str


class Usage(BaseModel):
    """Tokens are not counted: both numbers are 0."""

    prompt_tokens: int = 0
    total_tokens: int = 0


class EmbeddingAnswer(BaseModel):
    """Vectors in the order of the input."""

    object: Literal["list"] = "list"
    data: list[EmbeddingRow]
    model: str
    usage: Usage = Usage()
    lrem: list[dict[str, Any]] = Field([], description="Of queries: route, keywords, degraded, timings_ms, decision.")


class RouteRequest(BaseModel):
    """A query to be read but not searched."""

    model_config = ConfigDict(extra="forbid")

    text: Text
    route: Literal["auto", "direct", "reasoned"] = "auto"


class RouteAnswer(BaseModel):
    """How a query was read."""

    text: str
    route: Literal["direct", "reasoned", "bm25"]
    keywords: list[str]
    reasonings: list[str] = Field(description="What the reasoner wrote, a text a sample.")
    degraded: list[str]
    cached: bool
    timings_ms: dict[str, float]
    decision: dict[str, Any] | None = Field(description="Of the router: reasoned, why, score, threshold, features.")


class UbiEvent(BaseModel):
    """What somebody did with a result. Members that are not named here are written as they are."""

    model_config = ConfigDict(extra="allow")

    action_name: Annotated[str, Field(min_length=1, max_length=100)]
    query_id: Annotated[str, Field(max_length=100)] | None = None
    client_id: Annotated[str, Field(max_length=100)] | None = None
    timestamp: str | None = Field(None, description="ISO 8601; none: now.")
    user_query: str | None = None
    message: str | None = None
    message_type: str | None = None
    event_attributes: dict[str, Any] | None = None


class UbiAnswer(BaseModel):
    """What became of events; they are written later."""

    accepted: int
    dropped: int = Field(description="The queue was full.")


class Health(BaseModel):
    """How the service is."""

    status: Literal["ok", "broken"]
    opensearch: Literal["reachable", "unreachable"] | None = None
    embedder: str
    reasoner: str


class OpenAIProblem(BaseModel):
    """An error as OpenAI's clients read it."""

    error: dict[str, Any]


class OpenSearchProblem(BaseModel):
    """An error as OpenSearch's clients read it."""

    error: dict[str, Any] | str
    status: int | None = None
