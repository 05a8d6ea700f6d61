"""The least that a FastAPI handler over redis-py can do: the yardstick of `benchmarks.api`.

One validated body or one path parameter, one round trip to Redis, one JSON answer. Serves the
listening socket that it is given, with the same server as the real API.
"""

import argparse
import socket
import uuid
from typing import Any

import uvicorn
from fastapi import FastAPI, HTTPException
from pydantic import BaseModel
from redis.asyncio import Redis


class Body(BaseModel):
    """What the yardstick accepts."""

    prompt: str
    seed: int | None = None


def bare_app(redis_url: str) -> FastAPI:
    """Two routes: store a record, read it again."""
    app = FastAPI()
    redis = Redis.from_url(redis_url, decode_responses=True)

    @app.post("/jobs", status_code=202)
    async def submit(body: Body) -> dict[str, Any]:
        job_id = uuid.uuid4().hex
        await redis.hset(f"bare:{job_id}", mapping={"prompt": body.prompt, "seed": body.seed or 0})
        return {"id": job_id, "status": "queued"}

    @app.get("/jobs/{job_id}")
    async def get(job_id: str) -> dict[str, Any]:
        record: Any = await redis.hgetall(f"bare:{job_id}")
        if not record:
            raise HTTPException(404)
        return {"id": job_id, **record}

    return app


def main() -> None:
    """Serves until it is ended."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--redis", required=True)
    parser.add_argument("--fd", type=int, required=True)
    arguments = parser.parse_args()
    listener = socket.socket(fileno=arguments.fd)
    config = uvicorn.Config(bare_app(arguments.redis), log_config=None, server_header=False)
    uvicorn.Server(config).run(sockets=[listener])


if __name__ == "__main__":
    main()
