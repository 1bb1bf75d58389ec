"""An app that decides who may come in, subscribe and publish: Python's standard library, and nothing else.

    HOOKS_SECRET=$(openssl rand -hex 32) python3 examples/hooks/app.py 9000

and in throughline.toml, with the same secret:

    [hooks]
    connect_url = "http://127.0.0.1:9000/hooks"
    subscribe_url = "http://127.0.0.1:9000/hooks"
    publish_url = "http://127.0.0.1:9000/hooks"
    secret = "…"
    forward_headers = ["cookie"]
"""

import hashlib
import hmac
import http.cookies
import http.server
import json
import os
import sys
import time

SECRET = os.environ["HOOKS_SECRET"].encode()
OLDEST_S = 300

# Who is signed in, by the cookie `session`. In a real app this is its session store.
SESSIONS = {"a1": "ada", "b2": "bob"}


def is_from_the_edge(signature, body):
    """Whether the edge has signed this body, not long ago."""
    parts = dict(part.split("=", 1) for part in signature.split(",") if "=" in part)
    time_s, tag = parts.get("t", ""), parts.get("v1", "")
    if not time_s.isascii() or not time_s.isdigit() or abs(time.time() - int(time_s)) > OLDEST_S:
        return False
    expected = hmac.new(SECRET, time_s.encode() + b"." + body, hashlib.sha256).hexdigest()
    return hmac.compare_digest(expected.encode(), tag.encode())


def user_of(cookie_header):
    cookies = http.cookies.SimpleCookie(cookie_header)
    return SESSIONS.get(cookies["session"].value) if "session" in cookies else None


def connect(asked, user):
    if user is None:
        return {"allow": False, "code": "unauthenticated", "message": "sign in first"}
    return {
        "allow": True,
        "user": user,
        "grants": {"history": ["chat:*"], "channels": ["user:" + user]},
        "expires_at": int((time.time() + 3600) * 1000),
    }


def subscribe(asked, user):
    channel = asked["channel"]
    return {"allow": channel.startswith("chat:") or channel == "user:" + str(user)}


def publish(asked, user):
    data = asked["data"]
    if not asked["channel"].startswith("chat:") or not isinstance(data, dict):
        return {"allow": False}
    if "spam" in str(data.get("text", "")):
        return {"allow": False, "message": "no spam, please"}
    # What is published says who wrote it, whatever the client claims.
    return {"allow": True, "data": {**data, "from": user}}


HOOKS = {"connect": connect, "subscribe": subscribe, "publish": publish}


class App(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        body = self.rfile.read(int(self.headers["content-length"]))
        if not is_from_the_edge(self.headers.get("throughline-signature", ""), body):
            # Not a decision: the edge refuses whom it asked about, and logs why.
            return self.answer(401, {"error": "the signature does not fit"})
        asked = json.loads(body)
        user = asked.get("user") or user_of(self.headers.get("cookie", ""))
        return self.answer(200, HOOKS[asked["type"]](asked, user))

    def answer(self, status, value):
        text = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def log_message(self, *_):
        pass


if __name__ == "__main__":
    server = http.server.ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), App)
    print(f"http://127.0.0.1:{server.server_address[1]}", flush=True)
    server.serve_forever()
