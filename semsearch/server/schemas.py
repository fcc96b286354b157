"""What the API takes and gives. Names are those of `Searcher.search` and `Hit`."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints, model_validator

from semsearch.query.excerpt import Excerpt
from semsearch.query.facets import Facets
from semsearch.server import limits
from semsearch.server.filter_schema import PATTERN
from semsearch.store.catalog import IndexInfo
from semsearch.types import Hit

Mode = Literal["hybrid", "dense", "lexical"]
# Not white space alone, and no NUL, which no text that is searched has. Regular expressions differ in what white space
# is between languages, and those who read the schema have others than Python's.
Query = Annotated[
    str,
    StringConstraints(
        min_length=1, max_length=limits.QUERY_CHARACTERS, pattern=r"^[^\x00]*[^\s\x00\x1c-\x1f\x85\ufeff][^\x00]*$"
    ),
]
Condition = Annotated[
    str,
    StringConstraints(min_length=1, max_length=limits.FILTER_CHARACTERS),
    # For the schema alone: what is beyond it, and well formed, is taken as well.
    Field(json_schema_extra={"pattern": PATTERN}),
]
Name = Annotated[str, StringConstraints(min_length=1, max_length=255)]


def _whole(value: object) -> object:
    return int(value) if isinstance(value, float) and value.is_integer() else value


# JSON has no integers of its own: 5.0 is one.
Whole = Annotated[int, BeforeValidator(_whole)]


class _Asked(BaseModel):
    model_config = ConfigDict(extra="forbid")


class _Narrowed(_Asked):
    index: Name | None = Field(None, description="Its name; may be left out if only one is served.")
    k: Whole = Field(10, ge=1, le=limits.K, description="How many hits at most.")
    filter: Condition | None = Field(
        None, description="A condition on documents, such as `path:docs/ and modified>=2026-01-01`."
    )
    effort: float = Field(1.0, gt=0, le=limits.EFFORT, description="Of approximate search: more finds more.")


class _Search(_Narrowed):
    mode: Mode = "hybrid"
    per_document: Whole = Field(1, ge=1, le=limits.K, description="How many passages of a document at most.")
    passages: bool = Field(False, description="Rank passages without regard to their documents.")
    min_score: float | None = Field(None, allow_inf_nan=False, description="Leave out hits below this score.")
    rerank: bool = Field(False, description="Let the server's cross-encoder, if it has one, order the first 50.")
    rerank_weight: float = Field(1.0, ge=0, le=1, description="Its share of the score.")


class SearchParameters(_Search):
    """One query, in the address."""

    query: Query


class SearchRequest(_Search):
    """One query, or several that are embedded together."""

    model_config = ConfigDict(
        extra="forbid",
        strict=True,
        json_schema_extra={
            "examples": [{"query": "my tap drips", "k": 3}, {"queries": ["my tap drips", "frozen pipes"]}],
            "oneOf": [{"required": ["query"]}, {"required": ["queries"]}],
        },
    )
    # What is not given is empty, and not validated; null is not taken.
    query: Query = Field(default_factory=str)
    queries: list[Query] = Field(default_factory=list, min_length=1, max_length=limits.QUERIES)

    @model_validator(mode="after")
    def _one(self) -> SearchRequest:
        if len(self.model_fields_set & {"query", "queries"}) != 1:
            raise ValueError("give either `query` or `queries`")
        return self


class SimilarParameters(_Narrowed):
    """More like what is there."""

    target: Annotated[str, StringConstraints(min_length=1, max_length=limits.TARGET_CHARACTERS)] = Field(
        description="A hit's id, or PATH or PATH:LINE as in a hit."
    )


class DocumentParameters(_Asked):
    """A hit in its surroundings."""

    id: int = Field(ge=1, lt=2**63, description="Of a hit, or `previous` or `next` of an answer, to read on.")
    index: Name | None = Field(None, description="Its name; may be left out if only one is served.")
    context: int = Field(5, ge=0, le=limits.CONTEXT, description="Passages before and after it.")


class FacetsParameters(_Asked):
    """What documents are counted by."""

    index: Name | None = Field(None, description="Its name; may be left out if only one is served.")
    filter: Condition | None = Field(None, description="As of a search; other documents are not counted.")
    folder: Annotated[str, StringConstraints(max_length=limits.TARGET_CHARACTERS)] = Field(
        "", description="A folder that is chosen, with a slash behind: `docs/`. Those in it are counted."
    )
    type: Annotated[str, StringConstraints(max_length=255)] = Field("", description="A type that is chosen: `md`.")
    date: Annotated[str, StringConstraints(pattern=r"^([0-9]{4}(-[0-9]{2}){0,2})?$")] = Field(
        "", description="A date that is chosen: `2026` or `2026-03`. The months or days in it are counted."
    )


class MapParameters(_Asked):
    """Which index."""

    index: Name | None = Field(None, description="Its name; may be left out if only one is served.")


class PlacesParameters(MapParameters):
    """Passages."""

    id: list[Annotated[int, Field(ge=1, lt=2**63)]] = Field(
        min_length=1, max_length=limits.K, description="Of a hit; may be given more than once."
    )


# On a cluster alone.
Missing = Annotated[
    list[int] | None,
    Field(description="Shards that were not searched, as no machine answered for them; not there if all were."),
]


class SearchAnswer(BaseModel):
    """The hits of one query, the best first."""

    query: str
    index: str
    model: str
    took_ms: int
    missing_shards: Missing = None
    hits: list[Hit]


class Answered(BaseModel):
    """One query of several, and its hits."""

    id: str = Field(description="Its number, from 1.")
    query: str
    hits: list[Hit]


class SearchAnswers(BaseModel):
    """The hits of several queries."""

    index: str
    model: str
    took_ms: int
    missing_shards: Missing = None
    queries: list[Answered]


class SimilarAnswer(BaseModel):
    """What is near a document or passage."""

    similar_to: str
    index: str
    missing_shards: Missing = None
    hits: list[Hit]


class DocumentAnswer(BaseModel):
    """A passage in its surroundings."""

    index: str
    document: Excerpt


class ServedIndex(BaseModel):
    """What an index says of itself; `error` tells what is wrong with one that cannot be read."""

    name: str
    model: str
    dim: int
    generation: int
    files: int
    documents: int
    passages: int
    bytes: int
    built: str
    error: str | None

    @classmethod
    def of(cls, described: IndexInfo) -> dict[str, Any]:
        """Its fields of what an index says of itself: not where it is on this machine."""
        told = {name: getattr(described, name) for name in cls.model_fields}
        if described.error:
            told["error"] = "it cannot be read; the server's operator sees why with semsearch verify"
        return told


class ServedIndexes(BaseModel):
    """The indexes that are served."""

    indexes: list[ServedIndex]
    can_rerank: bool


class FacetsAnswer(BaseModel):
    """How many documents there are by folder, type and date."""

    index: str
    missing_shards: Missing = None
    facets: Facets


class MapAnswer(BaseModel):
    """Passages as places in the plane; of each, by its place in these lists, what is known."""

    index: str
    generation: int
    passages: int = Field(description="How many there are; more than are listed, where these are a sample.")
    folders: list[str] = Field(description="The folders that they are in; the root is empty.")
    ids: list[int]
    x: list[float] = Field(description="From 0 to 1.")
    y: list[float] = Field(description="From 0 to 1, downwards.")
    folder: list[int] = Field(description="Its number in `folders`, from 0.")


class PlacesAnswer(BaseModel):
    """Where passages are on the map, x and y, by their ids."""

    index: str
    places: dict[str, Annotated[list[float], Field(min_length=2, max_length=2)]]


class MakingAnswer(BaseModel):
    """Come again in a second."""

    status: Literal["making"]


class EmbeddingsRequest(BaseModel):
    """As OpenAI's; members that are not known are passed over."""

    model_config = ConfigDict(
        strict=True,
        json_schema_extra={"examples": [{"model": "all-MiniLM-L6-v2", "input": ["my tap drips", "frozen pipes"]}]},
    )
    model: Annotated[str, StringConstraints(min_length=1, max_length=255)] = Field(
        description="That of an index that is served, with or without what stands before the slash."
    )
    input: (
        Annotated[str, StringConstraints(min_length=1, max_length=limits.TEXT_CHARACTERS)]
        | Annotated[
            list[Annotated[str, StringConstraints(min_length=1, max_length=limits.TEXT_CHARACTERS)]],
            Field(min_length=1, max_length=limits.TEXTS),
        ]
    )
    encoding_format: Literal["float", "base64"] = "float"


class Embedding(BaseModel):
    """One vector, of length 1; in base64 as little-endian float32."""

    object: Literal["embedding"]
    index: int
    embedding: list[float] | str


class Usage(BaseModel):
    """Tokens that were embedded."""

    prompt_tokens: int
    total_tokens: int


class EmbeddingsAnswer(BaseModel):
    """As OpenAI's."""

    object: Literal["list"]
    data: list[Embedding]
    model: str
    usage: Usage


class ErrorDetail(BaseModel):
    """What was wrong, and what to do."""

    message: str
    type: str
    param: Any = None
    code: Any = None


class ErrorAnswer(BaseModel):
    """An error."""

    error: ErrorDetail
