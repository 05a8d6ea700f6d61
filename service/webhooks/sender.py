"""`Sender`: drains the outbox: claims what is due, posts it, says what came of it.

Any number of senders share the work. One that is killed loses nothing: what it was at is due again
when its claims are out, with the same id and the same bytes. Knows no HTTP and no Redis.
"""

import asyncio
import json
import logging
import random
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime

from standardwebhooks import Webhook
from tenacity import AsyncRetrying, retry_if_exception_type, stop_after_delay, wait_fixed

from service.errors import Unavailable
from service.jobs import Job
from service.queue.deliveries import Attempt, Claim
from service.queue.hub import Hint
from service.queue.outbox import Load, Outbox
from service.telemetry.logging import bound
from service.version import service_version
from service.webhooks.bodies import render
from service.webhooks.calls import Answer, Caller
from service.webhooks.schedule import Schedule, Verdict, judge
