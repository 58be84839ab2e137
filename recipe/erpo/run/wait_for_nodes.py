# SPDX-FileCopyrightText: 2026 The ERPO authors
# SPDX-License-Identifier: Apache-2.0
"""Wait until all nodes of a Ray cluster have joined: ``python -m recipe.erpo.run.wait_for_nodes IP:PORT NODES``."""

import argparse
import socket
import sys
import time


def wait_for_nodes(address: str, nodes: int, timeout: float) -> None:
    """Wait until ``nodes`` nodes have joined.

    Args:
        address: Ray's head, ``ip:port``.
        nodes: Nodes to wait for.
        timeout: Seconds.

    Raises:
        TimeoutError: Some did not join in time.
    """
    end = time.monotonic() + timeout
    ip, _, port = address.rpartition(":")
    # Ray's own client gives up on a head that is still starting.
    while not _listens(ip, int(port)):
        if time.monotonic() > end:
            raise TimeoutError(
                f"no Ray head answers at {address} within {timeout:g} s; start one with ray start --head"
            )
        time.sleep(1)
    import ray

    ray.init(address=address, log_to_driver=False, logging_level="ERROR")
    try:
        shown = 0
        while (joined := sum(node["Alive"] for node in ray.nodes())) < nodes:
            if joined != shown:
                print(f"{joined} of {nodes} nodes have joined", flush=True)
                shown = joined
            if time.monotonic() > end:
                raise TimeoutError(f"{joined} of {nodes} nodes joined within {timeout:g} s; start Ray on the others")
            time.sleep(1)
    finally:
        ray.shutdown()
    print(f"{nodes} of {nodes} nodes have joined", flush=True)


def _listens(ip: str, port: int) -> bool:
    try:
        with socket.create_connection((ip, port), timeout=5):
            return True
    except OSError:
        return False


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(
        prog="python -m recipe.erpo.run.wait_for_nodes",
        description="Wait until all nodes of a Ray cluster have joined.",
    )
    parser.add_argument("address", metavar="IP:PORT", help="Ray's head")
    parser.add_argument("nodes", type=int, help="nodes, the head's included")
    parser.add_argument("--timeout", type=float, default=900, help="seconds (default: 900)")
    options = parser.parse_args()
    if not options.address.rpartition(":")[2].isdigit():
        sys.exit(f"error: {options.address!r} is not an address; write IP:PORT")
    try:
        wait_for_nodes(options.address, options.nodes, options.timeout)
    except (TimeoutError, ConnectionError) as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
