"""What kinds of containers and of nodes there are."""

from typing import Literal

Role = Literal["service", "batch", "idle"]
Environment = Literal["cgroup-v1", "cgroup-v2", "model"]
