"""A map of an index: each passage a place in the plane, near those that it is like."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from semsearch.query.collection import Collection
from semsearch.store.ann import neighbours

Vectors = NDArray[np.float32]
# Passages on a map at most; of more these, evenly spaced.
DOTS = 20_000
# Of the principal components the neighbours are looked for in so many.
_COMPONENTS = 50
# What is a neighbour, how often each place is moved, and how strongly the others push it away.
_NEIGHBOURS, _STEPS, _PUSH = 12, 150, 2.0
# Others that push a place in each step, chosen anew each time.
_OTHERS = 4
# As much as this a neighbour, or another, moves a place in one step.
_MOST = 4.0
# A folder with more than this share of the dots is shown by the folders in it.
_LARGE = 0.6


@dataclass(frozen=True, slots=True)
class Map:
    """Where passages are.

    Attributes:
        generation: Of the index.
        passages: How many it has; more than there are dots, where they are a sample.
        ids: The passages' ids, ascending, (n,).
        places: x and y of each, from 0 to 1, (n, 2).
        folders: The folders that they are in, those with most passages first; the root is empty.
        folder_of: Of each passage the number of its folder in `folders`, (n,).
    """

    generation: int
    passages: int
    ids: NDArray[np.int64]
    places: Vectors
    folders: tuple[str, ...]
    folder_of: NDArray[np.int64]


def map_of(collection: Collection) -> Map:
    """The map of a generation; the same each time. 20,000 passages take some seconds."""
    count = len(collection)
    sample = collection.sample(np.linspace(0, count - 1, min(DOTS, count)).astype(np.int64))
    folders, folder_of = _by_folder(sample.paths)
    return Map(collection.generation, count, sample.ids, project(sample.vectors), folders, folder_of)


def places_of(collection: Collection, on: Map, ids: Sequence[int]) -> dict[int, tuple[float, float]]:
    """Where on a map passages are or, if they have no dot, what they are most like is; those that are there alone.

    Args:
        collection: The generation that the map is of.
        on: The map.
        ids: The passages.
    """
    wanted = collection.there(np.array(ids, np.int64))
    if not len(wanted):
        return {}
    at = np.searchsorted(on.ids, wanted).clip(max=len(on.ids) - 1)
    lacking = on.ids[at] != wanted
    if lacking.any():
        cosines = collection.candidates(wanted[lacking]).vectors @ collection.candidates(on.ids).vectors.T
        at[lacking] = cosines.argmax(axis=1)
    return {number: (x, y) for number, (x, y) in zip(wanted.tolist(), on.places[at].tolist(), strict=True)}


def project(vectors: Vectors) -> Vectors:
    """Places (n, 2), from 0 to 1, for vectors (n, dim), such that those with near vectors are near each other.

    They start at the first two principal components. Then neighbours, by the vectors, pull each other, and others that
    are chosen at random push each other away, as in UMAP (McInnes, Healy and Melville 2018), by its gradients for the
    kernel 1 / (1 + d^2) of t-SNE: Damrich et al. 2023, "From t-SNE to UMAP with contrastive learning". For all places
    at once, and each with the mean of what pulls it.
    """
    count = len(vectors)
    if count < 3:
        return np.linspace(0.25, 0.75, count, dtype=np.float32)[:, None].repeat(2, axis=1)
    centred = vectors - vectors.mean(axis=0)
    _, axes = np.linalg.eigh(centred.T @ centred)
    components = np.ascontiguousarray(centred @ axes[:, : -_COMPONENTS - 1 : -1], np.float32)
    if components.shape[1] < 2:
        components = np.pad(components, ((0, 0), (0, 1)))
    random = np.random.default_rng(0)
    places = components[:, :2].T.astype(np.float64)
    places /= max(float(places[0].std()), 1e-6)
    places += random.normal(0, 1e-4, places.shape)  # what is the same in all would stay in one place
    one, other = _pairs(components)
    degrees = np.bincount(one, minlength=count) + np.bincount(other, minlength=count)
    for step in range(_STEPS):
        gap = places[:, one] - places[:, other]
        pull = np.clip(-2 * gap / (1 + (gap * gap).sum(axis=0)), -_MOST, _MOST)
        pulled = np.stack([np.bincount(one, row, count) - np.bincount(other, row, count) for row in pull])
        pushed = np.zeros_like(places)
        for _ in range(_OTHERS):
            gap = places - places[:, random.permutation(count)]
            squared = (gap * gap).sum(axis=0)
            pushed += np.clip(2 * gap / ((1e-3 + squared) * (1 + squared)), -_MOST, _MOST)
        places += (1 - step / _STEPS) * (pulled / np.maximum(degrees, 1) + _PUSH / _OTHERS * pushed)
    return _to_unit(places.T)


def _pairs(components: Vectors) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Pairs of neighbours, each once."""
    count = len(components)
    near = neighbours(components, min(_NEIGHBOURS + 1, count))
    own = np.repeat(np.arange(count), near.shape[1])
    found = near.ravel()
    low, high = np.minimum(own, found), np.maximum(own, found)
    pairs = np.unique(low[low != high] * count + high[low != high])
    return pairs // count, pairs % count


def _to_unit(places: NDArray[np.float64]) -> Vectors:
    # The few that lie far out are brought to the edge, lest they make all the others small.
    low, high = np.quantile(places, [0.001, 0.999], axis=0)
    scaled = ((places - low) / max(float((high - low).max()), 1e-9)).clip(0, 1)
    in_the_middle: Vectors = (scaled + (1 - scaled.max(axis=0)) / 2).astype(np.float32)
    return in_the_middle


def _by_folder(paths: Sequence[str]) -> tuple[tuple[str, ...], NDArray[np.int64]]:
    """Folders, the largest first, and of each path the number of its own: a large one counts as those in it."""
    folders = [path[: path.rfind("/") + 1] for path in paths]
    groups = [folder[: folder.find("/") + 1] for folder in folders]
    while groups:
        largest, count = Counter(groups).most_common(1)[0]
        if count <= _LARGE * len(paths):
            break
        split = [
            folder[: folder.find("/", len(group)) + 1] or group if group == largest else group
            for folder, group in zip(folders, groups, strict=True)
        ]
        if split == groups:
            break
        groups = split
    names = [name for name, _ in Counter(groups).most_common()]
    numbers = {name: number for number, name in enumerate(names)}
    return tuple(names), np.array([numbers[group] for group in groups], np.int64)
