"""Amazon's S3 as moto has it, in a process of its own on a port of this machine."""

import contextlib
import os
import subprocess
import sys
import threading

SERVER = """
import sys
from moto.moto_server.threaded_moto_server import ThreadedMotoServer
server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
server.start()
print(server.get_host_and_port()[1], flush=True)
sys.stdin.read()
"""
KEYS = {"AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "secret", "AWS_REGION": "us-east-1"}
DEADLINE_S = 60


@contextlib.contextmanager
def moto_store(bucket, files):
    """A server with a bucket that holds these files; yields the environment that leads to it, and boto3's client."""
    import boto3
    from botocore.config import Config

    environment = {**os.environ, **KEYS}
    running = subprocess.Popen(
        [sys.executable, "-c", SERVER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
        text=True, env=environment,
    )  # fmt: skip
    deadline = threading.Timer(DEADLINE_S, running.kill)
    deadline.start()
    try:
        url = f"http://127.0.0.1:{int(running.stdout.readline())}"
        client = boto3.client(
            "s3", endpoint_url=url, region_name=KEYS["AWS_REGION"], aws_access_key_id="key",
            aws_secret_access_key="secret", config=Config(connect_timeout=10, read_timeout=20),
        )  # fmt: skip
        client.create_bucket(Bucket=bucket)
        for name, data in files.items():
            client.put_object(Bucket=bucket, Key=name, Body=data)
        yield {**KEYS, "AWS_ENDPOINT": url, "AWS_ALLOW_HTTP": "true"}, client
    finally:
        deadline.cancel()
        running.kill()
        running.wait(30)
        running.stdin.close()
        running.stdout.close()
