"""Plays what DirectTests tries: workload 1 calls a service whose endpoint is workload 2, on this node."""
import json
import os
import socket
import struct
import sys
import time

from play import (SERVICE, SERVICE6, attempt, beat, disconnect, enter, listen, map_put, mesh_listener, netns_cookie,
                  packed, receive_all, results, tcp)

APPLICATION, APPLICATION6 = ("10.9.0.2", 8080), ("fd99::1", 8080)


def is_called(listener):
    """Whether a connection came to the listener; it is closed."""
    listener.settimeout(0.2)
    try:
        listener.accept()[0].close()
        return 1
    except TimeoutError:
        return 0


def call(name, target, application, source=None, family=socket.AF_INET):
    client = tcp(family)
    if source:
        client.bind(source)
    code = attempt(lambda: client.connect(target))
    results[name] = {"errno": code}
    if code == 0 and application:
        connection, address = application.accept()
        results[name].update(accept=list(address[:2]), peer=list(client.getpeername()[:2]),
                             own=list(client.getsockname()[:2]))
        client.sendall(b"q" * 333)
        receive_all(connection, 333)
        connection.sendall(b"a" * 777)
        receive_all(client, 777)
        client.close()
        connection.recv(1)
        connection.close()
    client.close()


def by_proxy(name, target=SERVICE, source=None):
    """0 and whether the proxy got it, where nobody else did."""
    beat(proxy)
    call(name, target, None, source)
    results[f"{name}_proxy"] = is_called(proxy)


def reused():
    """A socket that was direct, disconnected and used again."""
    client = tcp()
    client.connect(SERVICE)
    connection, _ = application.accept()
    disconnect(client)
    results["reused"] = attempt(lambda: client.connect(SERVICE))
    connection.close()
    connection, _ = application.accept()
    connection.close()
    client.close()


def many():
    """Non-blocking, so that the hook's bind() is followed by connect() alone, and at once."""
    made = []
    for _ in range(50):
        client = tcp()
        client.setblocking(False)
        client.connect_ex(SERVICE)
        made.append((client, application.accept()[0]))
    results["many"] = sum(1 for client, connection in made
                          if client.getsockname() == connection.getpeername())
    for client, connection in made:
        client.close()
        connection.close()


def probe(name, address):
    """What meshd does: the vouch first, then the SYN, from outside of every workload."""
    enter("outside")
    client = tcp()
    client.bind(("10.9.0.1", 0))
    port = struct.pack("!H", client.getsockname()[1])
    tuple_ = (netns_cookie() + packed("10.9.0.1") + packed(address[0]) + port + struct.pack("!H", address[1])
              + bytes(4))
    map_put("mesh_vouches", tuple_, struct.pack("=IIIIQB15x", 2, 0, 0, 0, 0, 4))
    results[name] = attempt(lambda: client.connect(address))
    client.close()
    enter("w1")


def wait(name):
    print(name, flush=True)
    sys.stdin.readline()
    beat(proxy)


enter("sockets")
proxy = mesh_listener(("127.77.0.1", 15001))
enter("w2")
application, application6 = listen(APPLICATION), listen(APPLICATION6, socket.AF_INET6)
enter("w1")
call("direct", SERVICE, application)
call("direct6", SERVICE6, application6, family=socket.AF_INET6)
call("mapped", ("::ffff:10.96.0.1", 80), application, family=socket.AF_INET6)
call("bound", SERVICE, application, ("10.9.0.1", 0))
many()
reused()
results["proxy_called"] = is_called(proxy)
by_proxy("bound_elsewhere", source=("10.9.0.3", 0))
by_proxy("bound_port", source=("", 45678))
enter("w4")
by_proxy("other_workload")
enter("w1")
results["application_called"] = is_called(application)
probe("probe", APPLICATION)
results["probe_heard"] = is_called(application)
application.close()
call("no_listener", SERVICE, None)
enter("w4")
impostor = listen(APPLICATION)
enter("w1")
call("impostor", SERVICE, None)
results["impostor_called"] = is_called(impostor)
probe("probe_of_impostor", APPLICATION)
impostor.close()
enter("w2")
application = listen(APPLICATION)
enter("w1")
wait("other generation")
by_proxy("other_generation")
wait("no generation")
by_proxy("no_generation")
wait("equal addresses")
call("equal_addresses", SERVICE, None)
results["equal_addresses_called"] = is_called(application)
wait("full")
time.sleep(2.6)
call("stale", SERVICE, None)
results["stale_called"] = is_called(application)
print(json.dumps(results), flush=True)
