"""Plays what ArrivalTests tries: plain text to workloads from outside the mesh, from neighbours and from themselves."""
import json
import os
import socket
import struct
import sys
import time

from play import (APPLICATION, MESH_SOL, ROOT, accepted_info, attempt, beat, dial, enter, listen, map_put, mesh_listener,
                  netns_cookie, present, results, tcp)

NAMES, ASKER = 4, 6
ALONE4, ALONE6 = ("10.9.0.2", 9001), ("fd99::1", 9001)


def call(target, source=None):
    """0 and the connection, or the errno and none."""
    client = tcp(socket.AF_INET6 if ":" in target[0] else socket.AF_INET)
    if source:
        client.bind((source, 0))
    code = attempt(lambda: client.connect(target))
    return code, client


def code_of(target, source=None):
    code, client = call(target, source)
    client.close()
    return code


def strict():
    enter("w2")
    listen(("0.0.0.0", 9001))
    listeners.append(listen(("127.0.0.1", 9002)))
    listeners.append(listen(ALONE4))
    listeners.append(listen(ALONE6, socket.AF_INET6))
    enter("outside")
    began = time.monotonic()
    results["strict"] = code_of(ALONE4)
    results["strict_milliseconds"] = int((time.monotonic() - began) * 1000)
    results["strict6"] = code_of(ALONE6)
    results["closed_port"] = code_of(("10.9.0.2", 9999))
    results["loopback_outside"] = code_of(("127.0.0.1", 9002))
    nobody = listen(("10.9.0.1", 9100))
    results["not_a_workloads"] = code_of(("10.9.0.1", 9100))
    nobody.close()
    enter("w1")
    results["loopback_neighbour"] = code_of(("127.0.0.1", 9002))
    enter("w2")
    results["loopback_itself"] = code_of(("127.0.0.1", 9002))
    results["own_address"] = code_of(ALONE4)
    results["own_address6"] = code_of(ALONE6)


def exempt():
    enter("w2")
    listeners.append(listen(("10.9.0.2", 9004)))
    enter("outside")
    results["probe"] = code_of(("10.9.0.2", 9004), "10.9.0.3")
    results["probe_from_elsewhere"] = code_of(("10.9.0.2", 9004), "10.9.0.1")
    results["probe_of_another_port"] = code_of(ALONE4, "10.9.0.3")


def permissive():
    enter("w1")
    application = listen(("10.9.0.1", 9003))
    listeners.append(listen(("10.9.0.1", 9005)))
    enter("outside")
    results["no_inbound_listener"] = code_of(("10.9.0.1", 9003))
    enter("sockets")
    inbound = mesh_listener(("127.77.0.1", 15006))
    map_put("mesh_inbound", netns_cookie() + struct.pack("=II", socket.AF_INET, 0),
            struct.pack("=Q", inbound.fileno()))
    enter("outside")
    code, client = call(("10.9.0.1", 9003))
    results["permissive"] = {"errno": code}
    if code == 0:
        connection, _ = inbound.accept()
        results["permissive"].update(accepted_info(connection), own=list(connection.getsockname()))
        results["permissive_client_port"] = client.getsockname()[1]
        connection.close()
    client.close()
    results["other_port_strict"] = code_of(("10.9.0.1", 9005))
    made = dial(APPLICATION)
    present(made, "10.9.0.3", 7777)
    made.connect(("10.9.0.1", 9003))
    connection, address = application.accept()
    results["permissive_dial"] = {"accept": list(address)}
    connection.close()
    made.close()
    results["strict_dial"] = attempt(lambda: dial(APPLICATION).connect(("10.9.0.1", 9005)))
    enter("w4")
    open_application = listen(("10.9.0.3", 9006))
    enter("sockets")
    beat(inbound, 2)
    enter("outside")
    results["overloaded"] = code_of(("10.9.0.1", 9003))
    time.sleep(2.6)
    results["stale"] = code_of(("10.9.0.1", 9003))
    results["stale_open"] = code_of(("10.9.0.3", 9006))
    open_application.accept()[0].close()
    inbound.close()


def mismatch():
    """Workload 1 listens where the maps have workload 2, and the mesh dials the second."""
    enter("w1")
    impostor = listen(("10.9.0.2", 8080))
    results["listener_of_another"] = attempt(lambda: dial(APPLICATION).connect(("10.9.0.2", 8080)))
    impostor.close()
    enter("w2")
    application = listen(("10.9.0.2", 8080))
    results["listener_meant"] = attempt(lambda: dial(APPLICATION).connect(("10.9.0.2", 8080)))
    application.close()


def ask(asker=None, target=("127.0.0.1", 53), purpose=NAMES):
    made = dial(purpose)
    code = 0
    if asker is not None:
        code = attempt(lambda: made.setsockopt(MESH_SOL, ASKER, struct.pack("II", asker, 0)))
    if not code:
        code = attempt(lambda: made.connect(target))
    made.close()
    return code


def resolvers():
    """w1 has a resolver on loopback, which w2 asks too; the proxy carries the questions of both."""
    enter("w1")
    resolver = listen(("127.0.0.1", 53))
    for group in ("w1", "w2"):
        enter(group)
        code_of(("127.0.0.1", 53))  # noted, although the scene has nobody who would take it
    results["asks_its_own"] = ask(1)
    results["asks_a_neighbours"] = ask(2)
    results["asks_for_nobody"] = ask()
    results["asks_for_one_unknown"] = ask(99)
    results["asks_with_another_purpose"] = ask(1, purpose=APPLICATION)
    results["asks_where_nobody_asked"] = ask(1, ("127.0.0.2", 53))
    resolver.close()
    nobody = ask(1)
    enter("outside")
    resolver = listen(("127.0.0.1", 53))
    results["asks_the_nodes"] = ask(2)
    results["asks_without_a_resolver"] = nobody
    resolver.close()


def pending():
    """A cgroup that is marked, and of which meshd knows nothing yet."""
    os.mkdir(f"{ROOT}/made-later")
    enter("made-later")
    listeners.append(listen(("10.9.0.1", 9007)))
    enter("outside")
    results["marked_cgroup"] = code_of(("10.9.0.1", 9007))


def flood():
    """More refusals in a second than are told one by one."""
    enter("outside")
    results["flood_refused"] = sum(1 for _ in range(600) if code_of(ALONE4) == 111)


def wait():
    print("waiting", flush=True)
    sys.stdin.readline()


listeners = []
strict()
exempt()
permissive()
mismatch()
resolvers()
pending()
enter("w1")
listeners.append(listen(("127.0.0.1", 9008)))
wait()
enter("outside")
results["loopback_of_one_alone"] = code_of(("127.0.0.1", 9008))
results["address_of_one_alone"] = code_of(("10.9.0.1", 9005))
flood()
for listener in listeners:
    listener.close()
print(json.dumps(results), flush=True)
