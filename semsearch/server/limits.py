"""How much one request may ask for, and how long it may take."""

from __future__ import annotations

# Bytes of a request's body; of its target, which is path and query string; and of its headers together.
BODY = 4 << 20
# Of a body that is too large so much is read and thrown away, as who is still sending when the connection is closed may
# never see the answer.
DRAINED = 16 << 20
DRAIN_SECONDS = 2.0
TARGET = 128 << 10
HEADERS = 16 << 10
# Seconds in which a request's headers, and then its body, must have come.
HEADER_SECONDS = 10.0
BODY_SECONDS = 10.0
# Seconds that it may wait and be worked on.
WORK_SECONDS = 25.0
# Queries that are searched for together; and how many such batches are at it at once where all search in one process:
# Python runs in one thread at a time, and while one batch does, another's vectors are multiplied.
BATCH = 12
BATCHES = 3
# Seconds that a request waits for a map to be made, before it is told to come again.
MAP_SECONDS = 0.5
# Seconds after which one that was refused for want of room should come again.
RETRY_SECONDS = 1
# Seconds that are left to what is under way when the server is told to stop.
STOP_SECONDS = 20
# Connections at once.
CONNECTIONS = 512

K = 100
QUERIES = 64
QUERY_CHARACTERS = 4096
FILTER_CHARACTERS = 2048
TARGET_CHARACTERS = 4096
CONTEXT = 50
EFFORT = 16.0
# Texts of one request for embeddings, and characters of each; the body's limit comes first for many long ones.
TEXTS = 256
TEXT_CHARACTERS = 16_384
