"""Queries of several threads, embedded together."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

Vectors = NDArray[np.float32]


class _Request:
    def __init__(self, texts: Sequence[str]) -> None:
        self.texts = texts
        self.vectors: Vectors | None = None
        self.error: BaseException | None = None


class Batching:
    """Encodes for many threads, a batch at a time: what comes while one is being encoded makes up the next."""

    def __init__(self, encode: Callable[[Sequence[str]], Vectors]) -> None:
        """Encode by this function, which is never called twice at once."""
        self._encode = encode
        self._condition = threading.Condition()
        self._waiting: list[_Request] = []
        self._busy = False

    def __call__(self, texts: Sequence[str]) -> Vectors:
        """The vectors (n, dim) of texts, as the function gives them; its errors, too."""
        request = _Request(texts)
        with self._condition:
            self._waiting.append(request)
            while self._busy and request.vectors is None and request.error is None:
                self._condition.wait()
            if request.vectors is None and request.error is None:
                batch, self._waiting, self._busy = self._waiting, [], True
            else:
                batch = []
        if batch:
            try:
                self._run(batch)
            finally:
                with self._condition:
                    self._busy = False
                    self._condition.notify_all()
        if request.vectors is None:
            raise request.error or RuntimeError("a batch ended without a result")
        return request.vectors

    def _run(self, batch: Sequence[_Request]) -> None:
        try:
            vectors = self._encode([text for request in batch for text in request.texts])
        except BaseException as error:
            for request in batch:
                request.error = error
            if not isinstance(error, Exception):  # an interruption is this thread's own
                raise
            return
        start = 0
        for request in batch:
            request.vectors = vectors[start : start + len(request.texts)]
            start += len(request.texts)
