"""An SMTP server that accepts each mail after so many seconds, the only argument, and prints its recipients."""

from __future__ import annotations

import asyncio
import sys
from typing import Any

from aiosmtpd.smtp import SMTP

TAKES = float(sys.argv[1])


class Slow:
    async def handle_DATA(self, server: SMTP, session: Any, envelope: Any) -> str:  # noqa: N802 - aiosmtpd's name
        await asyncio.sleep(TAKES)
        print(*envelope.rcpt_tos, sep="\n", flush=True)
        return "250 OK"


async def serve() -> None:
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: SMTP(Slow(), loop=loop), "0.0.0.0", 8025)  # noqa: S104 - of the pod
    await server.serve_forever()


asyncio.run(serve())
