"""Embeddings in the shape of OpenAI's API, by the models of the indexes that are served and by no other."""

from __future__ import annotations

import base64
from typing import Any

from starlette.exceptions import HTTPException

from semsearch.server.schemas import EmbeddingsRequest
from semsearch.server.service import Service
from semsearch.store.segments import normalize


def model_names(service: Service) -> list[str]:
    """The models of the indexes that can be read, each once."""
    return sorted({one.model for one in service.describe() if not one.error})


def embeddings(service: Service, asked: EmbeddingsRequest) -> dict[str, Any]:
    """The answer to a request.

    Raises:
        HTTPException: 404, no index has this model.
        SemsearchError: The model cannot be had.
    """
    matching = [one for one in service.describe() if asked.model in (one.model, one.model.rpartition("/")[2])]
    if not matching:
        known = ", ".join(model_names(service)) or "none"
        raise HTTPException(404, f"no index that is served has the model {asked.model!r}; there are: {known}")
    texts = [asked.input] if isinstance(asked.input, str) else asked.input
    encoder = service.searcher(matching[0].name).encoder
    vectors = normalize(encoder.encode(texts)).astype("<f4")  # (n, dim)
    tokens = sum(map(len, encoder.tokenizer.token_ids(texts)))
    as_text = asked.encoding_format == "base64"
    return {
        "object": "list",
        "data": [
            {
                "object": "embedding",
                "index": number,
                "embedding": base64.b64encode(vector.tobytes()).decode() if as_text else vector.tolist(),
            }
            for number, vector in enumerate(vectors)
        ],
        "model": matching[0].model,
        "usage": {"prompt_tokens": tokens, "total_tokens": tokens},
    }
